from dataclasses import replace

from llmgateway.catalog.model import Account, Deployment
from llmgateway.routing.health.book import HealthBook
from llmgateway.routing.health.health import Change, Health

ACCOUNT = Account("main", "openai", "openai", api_key="sk-secret", api_base="https://one.example/v1")
DEPLOYMENT = Deployment(ACCOUNT, "gpt-4o")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_deployment_keeps_its_health_when_the_catalog_is_read_again() -> None:
    book = HealthBook()

    again = Deployment(replace(ACCOUNT, timeout_s=9.0), "gpt-4o", weight=7.0, context_length=1)

    assert book.of(again) is book.of(DEPLOYMENT)


def test_another_key_address_model_or_account_is_another_deployment() -> None:
    book = HealthBook()
    others = [
        Deployment(replace(ACCOUNT, api_key="sk-other"), "gpt-4o"),
        Deployment(replace(ACCOUNT, api_base="https://two.example/v1"), "gpt-4o"),
        Deployment(replace(ACCOUNT, name="other"), "gpt-4o"),
        Deployment(ACCOUNT, "gpt-4o-mini"),
    ]

    healths = [book.of(one) for one in [DEPLOYMENT, *others]]

    assert len({id(one) for one in healths}) == len({one.id for one in healths}) == 5


def test_a_name_is_the_same_everywhere_and_tells_no_secret() -> None:
    name = HealthBook().of(DEPLOYMENT).id

    assert name == HealthBook().of(DEPLOYMENT).id
    assert name.startswith("main/gpt-4o#")
    assert "secret" not in name
    assert "example" not in name


def test_listeners_hear_of_every_change() -> None:
    book = HealthBook()
    heard: list[tuple[str, Change]] = []
    book.listeners.append(lambda health, change: heard.append((health.model, change)))
    health = book.of(DEPLOYMENT)

    health.failed(1000.0, 999.0, "auth")
    assert health.begin(2000.0)
    health.well(2000.5, 2000.0, probe=True)

    assert heard == [("gpt-4o", "opened"), ("gpt-4o", "closed")]


def test_who_is_new_is_told_of_once() -> None:
    book = HealthBook()
    found: list[Health] = []
    book.found = found.append

    health = book.of(DEPLOYMENT)
    book.of(DEPLOYMENT)

    assert found == [health]


def test_the_health_of_a_clients_own_key_is_nobody_elses() -> None:
    book = HealthBook()
    heard: list[Change] = []
    book.listeners.append(lambda _health, change: heard.append(change))

    own = book.apart(DEPLOYMENT)
    own.failed(1000.0, 999.0, "auth")

    assert own is not book.of(DEPLOYMENT)
    assert book.of(DEPLOYMENT).state(1000.0) == "closed"
    assert list(book) == [book.of(DEPLOYMENT)]
    assert heard == []


def test_names_made_up_by_clients_do_not_fill_the_memory() -> None:
    clock = Clock()
    book = HealthBook(clock=clock)
    catalogs = book.of(Deployment(ACCOUNT, "of-the-catalog"))
    busy, resting = (book.of(Deployment(ACCOUNT, name), lasting=False) for name in ("busy", "resting"))
    resting.failed(clock.now, clock.now, "auth")
    busy.begin(clock.now)

    for number in range(20_000):
        book.of(Deployment(ACCOUNT, f"made-up-{number}"), lasting=False).failed(clock.now, clock.now, "auth")

    assert len(list(book)) <= 10_000
    assert book.of(Deployment(ACCOUNT, "of-the-catalog")) is catalogs
    assert book.of(Deployment(ACCOUNT, "busy")) is busy
    assert book.of(Deployment(ACCOUNT, "resting")) is not resting


def test_another_secret_at_the_same_account_is_another_deployment() -> None:
    book = HealthBook()
    one, other = (Account("aws", "bedrock", "litellm", options={"aws_secret_access_key": key}) for key in ("a", "b"))

    assert book.of(Deployment(one, "claude")) is not book.of(Deployment(other, "claude"))


def test_it_can_be_looked_through_while_it_grows() -> None:
    book = HealthBook()
    book.of(DEPLOYMENT)

    for health in book:
        book.of(Deployment(ACCOUNT, f"{health.model}-more"))

    assert len(list(book)) == 2
