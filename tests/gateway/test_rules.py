from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
import pytest

from llmgateway.caller import ANYONE, Budget, Caller
from llmgateway.catalog.model import Account, CallerLimits, Deployment, Limits, Model
from llmgateway.catalog.snapshot import USUAL_LIMITS, Catalog
from llmgateway.exchange import Call, Exchange, Operation
from llmgateway.gateway import rules as rules_module
from llmgateway.gateway.rules import NO_RULES, RuleBook, merged
from llmgateway.stores.base import Rate, Rules
from tests.deployments import deployment
from tests.timing import relative_cost

CHAT = Model("chat", (deployment(),))
CLIENT = Caller(kind="client", key_id="key_1", organization="acme")


def offer(limits: CallerLimits = USUAL_LIMITS, models: Mapping[str, Model] | None = None) -> Catalog:
    models = models or {"chat": CHAT}
    accounts = {one.account.name: one.account for model in models.values() for one in model.deployments}
    return Catalog(models=models, accounts=accounts, version="1", limits=limits)


def own(**named: int) -> CallerLimits:
    """Make limits without a tier or an operation but those named."""
    return CallerLimits(tiers={"default": Limits(**named)}, operations={})


def book(limits: CallerLimits = USUAL_LIMITS, *, enabled: bool = True, **given: object) -> RuleBook:
    catalog = offer(limits)
    return RuleBook(lambda: catalog, enabled=enabled, **given)  # type: ignore[arg-type]


def asked(
    rules: RuleBook,
    caller: Caller = CLIENT,
    operation: Operation = "chat",
    *,
    user: str | None = None,
    organization: str | None = None,
    model: Model = CHAT,
) -> Rules:
    exchange = Exchange(caller=caller, organization=organization or caller.organization)
    return rules.of(exchange, Call(operation, model.name, b"{}", user=user), model)


def rates(rules: Rules) -> dict[str, Rate]:
    return {rate.name: rate for rate in rules.rates}


def test_a_key_without_anything_has_the_default_tier() -> None:
    found = asked(book())

    assert {name: (rate.limit, rate.period_s, rate.burst) for name, rate in rates(found).items()} == {
        "key.requests_per_minute": (60, 60.0, 10),
        "key.requests_per_hour": (1000, 3600.0, 167),
        "key.tokens_per_minute": (50_000, 60.0, 50_000),
        "operation.chat": (60, 60.0, 10),
    }
    assert [(rest.name, rest.rest_s, rest.after, rest.within_s) for rest in found.cooldowns] == [
        ("key.cooldown", 60.0, 10, 60.0)
    ]
    assert rates(found)["key.requests_per_minute"].key == "rate:key_1:requests_per_minute"


def test_a_key_s_own_numbers_go_before_its_tier_s_and_those_before_the_default_ones() -> None:
    limits = CallerLimits(
        tiers={"default": Limits(60, requests_per_day=5000, concurrent=9), "gold": Limits(120, 7000, burst=33)},
        operations={},
    )
    caller = Caller(kind="client", key_id="k", tier="gold", limits=Limits(requests_per_hour=10))

    found = asked(book(limits), caller)

    numbers = {name: (rate.limit, rate.burst) for name, rate in rates(found).items()}
    assert numbers == {
        "key.requests_per_minute": (120, 33),
        "key.requests_per_hour": (10, 2),
        "key.requests_per_day": (5000, 834),
    }
    assert [(slots.name, slots.limit) for slots in found.slots] == [("key.concurrent", 9)]


def test_a_burst_belongs_to_its_requests_a_minute() -> None:
    assert merged(Limits(600), Limits(60, burst=10)).burst is None
    assert merged(Limits(burst=3), Limits(60, burst=10)).burst == 3
    assert merged(Limits(requests_per_hour=9), Limits(60, burst=10)).burst == 10


def test_settings_speak_of_the_default_tier_alone() -> None:
    limits = book(overrides=Limits(requests_per_minute=7, tokens_per_minute=70))

    default, premium = asked(limits), asked(limits, Caller(kind="client", key_id="k", tier="premium"))

    assert rates(default)["key.requests_per_minute"].limit == 7
    assert rates(default)["key.requests_per_minute"].burst == 2
    assert rates(default)["key.requests_per_hour"].limit == 1000
    assert rates(premium)["key.requests_per_minute"].limit == 120


def test_another_tier_may_be_the_default_one_and_a_lost_one_is_not_boundless() -> None:
    assert rates(asked(book(default_tier="enterprise")))["key.requests_per_minute"].limit == 300
    assert rates(asked(book(default_tier="gone")))["key.requests_per_minute"].limit == 60
    gone = Caller(kind="client", key_id="k", tier="gone")
    assert rates(asked(book(), gone))["key.requests_per_minute"].limit == 60


@pytest.mark.parametrize(
    ("operation", "name", "limit"),
    [("chat", "operation.chat", 60), ("completion", "operation.chat", 60), ("embedding", "operation.embeddings", 30)],
)
def test_an_operation_has_its_own_limit(operation: Operation, name: str, limit: int) -> None:
    rate = rates(asked(book(), operation=operation))[name]

    assert (rate.limit, rate.key) == (limit, f"rate:key_1:{name.replace('.', ':')}")


def test_usual_operation_limits_do_not_hold_back_who_was_given_more() -> None:
    premium = Caller(kind="client", key_id="k", tier="premium")
    meant = CallerLimits(tiers=USUAL_LIMITS.tiers, operations={"chat": 61})

    assert "operation.chat" not in rates(asked(book(), premium))
    assert "operation.chat" not in rates(asked(book(overrides=Limits(600))))
    assert rates(asked(book(meant), premium))["operation.chat"].limit == 61


def test_in_mode_none_each_organization_is_a_caller_and_all_without_are_one() -> None:
    limits = book(own(requests_per_minute=6))
    nobody, acme, other = (
        asked(limits, ANYONE),
        asked(limits, ANYONE, organization="acme"),
        asked(limits, ANYONE, organization="other"),
    )

    keys = [found.rates[0].key for found in (nobody, acme, other)]
    assert keys[:2] == ["rate:anyone:requests_per_minute", "rate:anyone:acme:requests_per_minute"]
    assert len(set(keys)) == 3
    assert nobody.rates[0].name == "key.requests_per_minute"


def test_an_organization_has_limits_for_all_its_keys() -> None:
    limits = Limits(requests_per_minute=5, concurrent=2, cooldown_seconds=3)
    one = asked(book(), Caller(kind="client", key_id="a", organization="acme", organization_limits=limits))
    other = asked(book(), Caller(kind="client", key_id="b", organization="acme", organization_limits=limits))

    assert rates(one)["organization.requests_per_minute"] == rates(other)["organization.requests_per_minute"]
    assert one.slots == other.slots
    assert [rest.name for rest in one.cooldowns] == ["key.cooldown", "organization.cooldown"]
    assert rates(one)["key.requests_per_minute"].key != rates(other)["key.requests_per_minute"].key


def test_users_are_labels_within_their_organization() -> None:
    limits = book(CallerLimits(tiers={}, operations={}, users=Limits(requests_per_minute=2)))
    other = Caller(kind="client", key_id="key_2", organization="other")
    alone = Caller(kind="client", key_id="key_3")

    found = [
        asked(limits, CLIENT, user="bob"),
        asked(limits, Caller(kind="client", key_id="key_9", organization="acme"), user="bob"),
        asked(limits, other, user="bob"),
        asked(limits, alone, user="bob"),
        asked(limits, CLIENT, user="alice"),
    ]

    keys = [rules.rates[0].key for rules in found]
    assert keys[0] == keys[1] == "rate:organization:acme:user:bob:requests_per_minute"
    assert len(set(keys)) == 4
    assert asked(limits, CLIENT).rates == ()


def test_what_a_client_writes_never_becomes_a_key_as_it_is() -> None:
    limits = book(CallerLimits(tiers={}, operations={}, users=Limits(requests_per_minute=2)))
    odd = ["x" * 100_000, "a:b", "*", "bob\n", "", "\ud800", "~"]

    keys = [asked(limits, user=user).rates[0].key for user in odd]

    assert len(set(keys)) == len(odd)
    assert all(len(key) < 200 and key.isascii() and key.isprintable() for key in keys)


def test_models_and_everyone_are_limited_over_all_callers_and_never_rest() -> None:
    limits = CallerLimits(
        tiers={},
        operations={},
        models={"chat": Limits(tokens_per_minute=9, cooldown_seconds=9)},
        everyone=Limits(requests_per_minute=99, concurrent=7, cooldown_seconds=9),
    )
    one, other = asked(book(limits)), asked(book(limits), ANYONE)

    assert one == other
    assert {(rate.name, rate.key) for rate in one.rates} == {
        ("model.tokens_per_minute", "rate:model:chat:tokens_per_minute"),
        ("everyone.requests_per_minute", "rate:everyone:requests_per_minute"),
    }
    assert [slots.key for slots in one.slots] == ["slots:everyone"]
    assert one.cooldowns == ()
    elsewhere = asked(book(limits), model=Model("else", CHAT.deployments))
    assert [rate.name for rate in elsewhere.rates] == ["everyone.requests_per_minute"]


def test_whoever_has_the_admin_key_is_no_caller_with_a_tier() -> None:
    limits = replace_everyone(own(requests_per_minute=1), Limits(requests_per_minute=99))

    assert [rate.name for rate in asked(book(limits), Caller(kind="admin")).rates] == ["everyone.requests_per_minute"]


def replace_everyone(limits: CallerLimits, everyone: Limits) -> CallerLimits:
    return msgspec.structs.replace(limits, everyone=everyone)


def test_disabled_limits_leave_budgets_and_nothing_else() -> None:
    limits = book(enabled=False)
    caller = msgspec.structs.replace(CLIENT, budget=Budget(5), organization_budget=Budget(9, "total"))

    assert asked(limits) is NO_RULES
    found = asked(limits, caller)
    assert (found.rates, found.slots, found.cooldowns) == ((), (), ())
    assert [(purse.name, purse.owner) for purse in found.purses] == [
        ("key.budget", "key_1"),
        ("organization.budget", "acme"),
    ]


def test_purses_are_made_once_a_period() -> None:
    clock = [datetime(2026, 11, 30, 23, 59, tzinfo=UTC).timestamp()]
    limits = book(enabled=False, now=lambda: clock[0])
    caller = msgspec.structs.replace(CLIENT, budget=Budget(5), organization_budget=Budget(9, "day"))

    first = asked(limits, caller)
    assert asked(limits, caller) is first
    clock[0] += 60
    second = asked(limits, caller)

    assert [purse.key for purse in second.purses] == [
        "budget:key:key_1:month:2026-12",
        "budget:organization:acme:day:2026-12-01",
    ]
    assert asked(limits, caller) is second


def test_rules_are_made_once_and_anew_when_the_catalog_changes() -> None:
    served = [offer(own(requests_per_minute=6))]
    limits = RuleBook(lambda: served[0], enabled=True)
    first = asked(limits)
    assert asked(limits) is first

    served[0] = offer(own(requests_per_minute=7))

    assert asked(limits).rates[0].limit == 7


def test_labels_without_end_make_no_rules_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "_KEPT", 100)
    limits = book(CallerLimits(tiers={}, operations={}, users=Limits(requests_per_minute=2)))
    often = asked(limits, user="often")

    for number in range(1000):
        asked(limits, user=f"user-{number}")
        asked(limits, organization=f"org-{number}", caller=ANYONE)
        assert asked(limits, user="often") is often

    entries = limits._entries  # noqa: SLF001  what is kept is seen nowhere else
    assert len(entries.young) + len(entries._old) <= 200  # noqa: SLF001


def test_a_provider_s_key_is_kept_nowhere_and_counted_by_address() -> None:
    limits = book()
    caller = Caller(kind="provider", key_id="10.0.0.1", provider="openai", provider_key="sk-planted-canary")

    found = asked(limits, caller)
    again = asked(limits, msgspec.structs.replace(caller, provider_key="sk-planted-other"))

    assert found is again
    assert found.rates[0].key == "rate:10.0.0.1:requests_per_minute"
    assert all(key[0].provider_key is None for key in limits._entries.young)  # noqa: SLF001  see above


def limited(name: str, account: Limits, own: Limits, model: str = "gpt-4o") -> Deployment:
    return Deployment(Account(name, "openai", "openai", limits=account), model, limits=own)


def test_accounts_and_deployments_are_choices_in_every_mode() -> None:
    model = Model(
        "chat",
        (
            limited("a", Limits(5, concurrent=2, cooldown_seconds=9), Limits(tokens_per_minute=8, cooldown_seconds=9)),
            deployment("b"),
        ),
    )
    catalog = offer(models={"chat": model})
    for enabled in (True, False):
        limits = RuleBook(lambda: catalog, enabled=enabled)

        first, second = limits.choices(model.deployments, ANYONE)

        assert {(rate.name, rate.key) for rate in first.rates} == {
            ("provider.requests_per_minute", "rate:provider:a:requests_per_minute"),
            ("deployment.tokens_per_minute", "rate:provider:a:gpt-4o:tokens_per_minute"),
        }
        assert [(slots.name, slots.key) for slots in first.slots] == [("provider.concurrent", "slots:provider:a")]
        assert first.cooldowns == ()
        assert second == NO_RULES
        again = limits.choices(model.deployments, ANYONE)
        assert again[0] is first


def test_without_limits_there_are_no_choices() -> None:
    limited_one = Model("chat", (limited("a", Limits(5), Limits()),))
    catalog = offer(models={"chat": limited_one, "free": CHAT})
    limits = RuleBook(lambda: catalog, enabled=True)

    assert limits.choices(CHAT.deployments, ANYONE) == ()
    assert len(limits.choices(limited_one.deployments, ANYONE)) == 1
    assert book().choices(CHAT.deployments, ANYONE) == ()


def test_some_of_the_deployments_have_the_same_rules_as_among_all() -> None:
    model = Model("chat", (limited("a", Limits(5), Limits()), limited("b", Limits(6), Limits())))
    catalog = offer(models={"chat": model})
    limits = RuleBook(lambda: catalog, enabled=True)

    assert limits.choices(model.deployments[1:], ANYONE) == limits.choices(model.deployments, ANYONE)[1:]


def test_a_client_s_own_key_uses_nothing_of_our_account() -> None:
    model = Model("chat", (limited("a", Limits(5), Limits()),))
    catalog = offer(models={"chat": model})
    caller = Caller(kind="provider", key_id="10.0.0.1", provider="openai", provider_key="sk-planted")

    assert RuleBook(lambda: catalog, enabled=True).choices(model.deployments, caller) == ()


def test_all_that_holds_for_a_caller_can_be_looked_at() -> None:
    caller = msgspec.structs.replace(CLIENT, budget=Budget(5), organization_limits=Limits(9))
    limits = replace_everyone(USUAL_LIMITS, Limits(requests_per_minute=99))

    found = book(limits).of_caller(caller, "acme")

    assert [rate.name for rate in found.rates] == [
        *("key.requests_per_minute", "key.requests_per_hour", "key.tokens_per_minute"),
        *("organization.requests_per_minute", "operation.chat", "operation.embeddings"),
    ]
    assert [purse.name for purse in found.purses] == ["key.budget"]
    assert book(limits, enabled=False).of_caller(caller, "acme").rates == ()


@pytest.mark.alone
def test_a_known_call_s_rules_are_found_in_microseconds() -> None:
    limits = book()
    exchange, call = Exchange(caller=CLIENT, organization="acme"), Call("chat", "chat", b"{}")
    limits.of(exchange, call, CHAT)

    assert relative_cost(lambda: limits.of(exchange, call, CHAT), number=10_000) < 1
