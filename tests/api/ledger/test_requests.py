import time
from datetime import UTC, datetime

import httpx2
import msgspec
import pytest

from llmgateway.api.ledger.requests import routes
from llmgateway.ids import new_id
from llmgateway.keys.directory import Directory
from llmgateway.keys.modes import Identify
from llmgateway.storage.entry import LedgerEntry
from llmgateway.storage.queries import StorageAwayError
from llmgateway.storage.recent import RecentEntries
from tests.api.ledger.books import FOREVER, Books, asking, entry_of_a_call
from tests.keys.people import People

OLD = "req_0190000000041d5e0c93b28f64"


def ask(
    request_id: str,
    books: Books,
    *remembered: LedgerEntry,
    organization: str | None = None,
    wait_s: float = 0.5,
    limit_s: float = 1.0,
) -> httpx2.Response:
    recent = RecentEntries()
    for entry in remembered:
        recent.extend([msgspec.json.encode(entry)])
    headers = {} if organization is None else {"X-Organization-ID": organization}
    client = asking(routes(recent, books.find, wait_s=wait_s, limit_s=limit_s))
    return client.get(f"/v1/requests/{request_id}", headers=headers)


def test_what_this_process_just_answered_is_told_without_the_database() -> None:
    books, entry = Books(), entry_of_a_call()

    answer = ask(entry.id, books, entry)

    assert (answer.status_code, answer.json()["id"]) == (200, entry.id)
    assert answer.headers["cache-control"] == "no-store"
    assert books.asked == []


def test_anything_else_is_found_in_the_database_by_either_id() -> None:
    entry = entry_of_a_call(id=OLD, client_id="order-17")
    books = Books(entries=[entry])

    assert ask(OLD, books).json()["id"] == OLD
    assert ask("order-17", books).json()["id"] == OLD


def test_of_requests_with_the_same_client_id_the_newest_is_told() -> None:
    first, second = entry_of_a_call(client_id="again"), entry_of_a_call(client_id="again")

    assert ask("again", Books(), first, second).json()["id"] == second.id


def test_what_another_process_answered_a_moment_ago_is_waited_for() -> None:
    entry = entry_of_a_call()
    books = Books(entries=[entry], from_question=3)

    assert ask(entry.id, books).json()["id"] == entry.id
    assert len(books.asked) == 3


@pytest.mark.parametrize("request_id", [OLD, "order-17", f"req_{'f' * 26}", "req_", "req_xyz"])
def test_nothing_else_is_waited_for(request_id: str) -> None:
    books = Books()

    answer = ask(request_id, books, wait_s=30.0)

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert len(books.asked) == 1


def test_the_wait_has_an_end() -> None:
    began = time.perf_counter()

    assert ask(new_id("req"), Books(), wait_s=0.2).status_code == 404
    assert time.perf_counter() - began < 3


def test_pitfall_138_a_foreign_organization_reads_what_it_would_of_a_request_that_never_was() -> None:
    stored, remembered = entry_of_a_call(id=OLD, organization_id="acme"), entry_of_a_call(organization_id="acme")
    never = new_id("req")
    books = Books(entries=[stored, remembered])

    def told(request_id: str, organization: str) -> tuple[int, str]:
        answer = ask(request_id, books, remembered, organization=organization, wait_s=0.0)
        if answer.status_code == 200:
            return 200, str(answer.json()["id"])
        return answer.status_code, answer.json()["error"]["message"].replace(request_id, "ID")

    assert told(OLD, "acme") == (200, OLD)
    assert told(remembered.id, "acme") == (200, remembered.id)
    assert told(OLD, "evil") == told(remembered.id, "evil") == told(never, "evil") == told(never, "acme")
    assert told(never, "evil")[0] == 404


def test_a_client_id_that_two_organizations_use_shows_each_its_own() -> None:
    mine, theirs = (
        entry_of_a_call(client_id="x", organization_id="me"),
        entry_of_a_call(client_id="x", organization_id="they"),
    )

    assert ask("x", Books(), mine, theirs, organization="me").json()["id"] == mine.id


def test_an_organization_that_nobody_can_be_does_not_open_everything() -> None:
    entry = entry_of_a_call(organization_id="acme")

    answer = ask(entry.id, Books(), entry, organization="acme' OR 1=1")

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "X-Organization-ID")


def test_a_key_reads_its_own_requests_and_not_those_of_another_key_of_its_organization() -> None:
    people = People()
    mine, colleague = people.add(organization_id="acme"), people.add(organization_id="acme")
    remembered = entry_of_a_call(organization_id="acme", key_id=people.row(mine).id)
    stored = entry_of_a_call(id=OLD, organization_id="acme", key_id=people.row(mine).id)
    recent, identify = RecentEntries(), Identify("client", directory=Directory(people), admin_key="admin-key")
    recent.extend([msgspec.json.encode(remembered)])
    client = asking(routes(recent, Books(entries=[stored, remembered]).find, wait_s=0.0), identify)

    def status(request_id: str, key: str) -> int:
        return client.get(f"/v1/requests/{request_id}", headers={"X-API-Key": key}).status_code

    for request_id in (OLD, remembered.id):
        assert [status(request_id, key) for key in (mine, colleague, "admin-key", "wrong")] == [200, 404, 200, 401]


@pytest.mark.parametrize(
    "request_id", ["'%20OR%201=1--", "a" * 5000, "%00", "%F0%9F%98%80", "..%5C..", "req_%25", "%0a", "%25s%25n"]
)
def test_what_no_id_can_be_does_not_reach_the_database(request_id: str) -> None:
    books = Books()

    answer = ask(request_id, books)

    assert answer.status_code == 404
    assert books.asked == []
    assert len(answer.text) < 1000


@pytest.mark.parametrize("broken", [StorageAwayError("postgres.internal:5432 refuses"), FOREVER])
def test_without_the_database_the_rest_of_the_ledger_is_told_to_come_back(broken: object) -> None:
    entry, books = entry_of_a_call(), Books(broken)

    assert ask(entry.id, books, entry).status_code == 200
    answer = ask(OLD, books, entry, limit_s=0.1)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert "internal" not in answer.text


def test_ids_of_the_last_minutes_are_new_and_others_are_not() -> None:
    now_ms = int(datetime.now(UTC).timestamp() * 1000)

    def questions(age_ms: int) -> int:
        books = Books()
        ask(f"req_{now_ms - age_ms:011x}{'0' * 15}", books, wait_s=0.01)
        return len(books.asked)

    assert [questions(age_ms) > 1 for age_ms in (0, 590_000, 700_000, -60_000)] == [True, True, False, False]
