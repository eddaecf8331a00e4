from typing import Any

from llmgateway.keys.directory import caller_of
from llmgateway.stores.base import Ask, StoreAwayError
from tests.api.admin.office import SOMEBODY, Office

LIMITS = {"requests_per_minute": 60, "burst": 10, "tokens_per_minute": 1000, "concurrent": 4, "cooldown_seconds": 30}


async def key_of_acme(office: Office) -> str:
    organization = {"id": "acme", "name": "Acme", "limits": {"requests_per_hour": 600}, "budget": {"usd": 9}}
    await office.ask("POST", "/admin/organizations", organization)
    body = {"name": "x", "organization_id": "acme", "limits": LIMITS, "budget": {"usd": 5}}
    made = await office.ask("POST", "/admin/keys", body)
    return str(made["id"])


async def use(office: Office, key_id: str, call: str = "req_1") -> None:
    """Do what a call does to the counters."""
    row, organization = await office.storage.key(key_id), await office.storage.organization("acme")
    assert row is not None
    rules = office.rules.of_caller(caller_of(row, organization), "acme")
    ask = Ask(call, rules, tokens=100, cost_nusd=1_000_000_000, lease_s=60.0)
    decision, _ = await office.limiter.reserve(ask)
    for purse in decision.unseeded:
        await office.limiter.seed(purse, 0)
    if decision.unseeded:
        decision, _ = await office.limiter.reserve(ask)
    assert decision.allowed


def rate(shown: Any, name: str) -> Any:
    (found,) = [one for one in shown["rates"] if one["rule"] == name]
    return found


async def test_a_keys_counters_are_its_own(office: Office) -> None:
    key_id = await key_of_acme(office)
    await use(office, key_id)

    shown = await office.ask("GET", "/admin/limits", params={"key_id": key_id})

    requests, tokens = rate(shown, "key.requests_per_minute"), rate(shown, "key.tokens_per_minute")
    assert (requests["limit"], requests["burst"], requests["remaining"]) == (60, 10, 9)
    assert (tokens["unit"], tokens["remaining"]) == ("tokens", 900)
    assert 0 < requests["reset_seconds"] <= 1
    assert shown["concurrent"] == [{"rule": "key.concurrent", "limit": 4, "in_flight": 1}]
    assert shown["cooldowns"] == [{"rule": "key.cooldown", "rest_seconds": 0}]
    assert shown["budgets"] == [{"rule": "key.budget", "usd": 5, "spent_usd": 1}]


async def test_an_organizations_counters_are_all_its_keys_together(office: Office) -> None:
    await use(office, await key_of_acme(office))

    shown = await office.ask("GET", "/admin/limits", params={"organization_id": "acme"})

    assert [(one["rule"], one["remaining"]) for one in shown["rates"]] == [("organization.requests_per_hour", 99)]
    assert shown["budgets"] == [{"rule": "organization.budget", "usd": 9, "spent_usd": 1}]
    assert shown["concurrent"] == []


async def test_a_reset_gives_rates_back_and_leaves_money_and_calls_that_run(office: Office) -> None:
    key_id = await key_of_acme(office)
    await use(office, key_id)

    answer = await office.ask("POST", "/admin/limits/reset", {"key_id": key_id})
    shown = await office.ask("GET", "/admin/limits", params={"key_id": key_id, "organization_id": "acme"})

    assert "key.requests_per_minute" in answer["reset"]
    assert not any(name.startswith("organization") for name in answer["reset"])
    assert rate(shown, "key.requests_per_minute")["remaining"] == 10
    assert rate(shown, "organization.requests_per_hour")["remaining"] == 99
    assert {one["rule"]: one["spent_usd"] for one in shown["budgets"]} == {"key.budget": 1, "organization.budget": 1}
    assert shown["concurrent"][0]["in_flight"] == 1
    assert (await office.deeds())[0] == ("limits.reset", key_id)


async def test_a_key_of_the_settings_has_counters_too(office: Office) -> None:
    shown = await office.ask("GET", "/admin/limits", params={"key_id": "gateway_0a1b2c3d"})

    assert rate(shown, "key.requests_per_minute")["limit"] == 60


async def test_one_must_be_named_that_is_there(office: Office) -> None:
    for method, path, body in (("GET", "/admin/limits", None), ("POST", "/admin/limits/reset", {})):
        assert "Name one" in (await office.refused(method, path, body))["message"]
    await office.refused("GET", "/admin/limits", params={"key_id": "key_1"}, status=404)
    await office.refused("GET", "/admin/limits", params={"organization_id": "acme"}, status=404)
    await office.refused("GET", "/admin/limits", params={"key": "key_1"})
    await office.refused("POST", "/admin/limits/reset", {"key_id": "key_1"}, status=404)


async def test_a_store_that_is_away_is_a_503(office: Office, monkeypatch: Any) -> None:
    async def away(*_: object) -> None:
        raise StoreAwayError("redis.internal refused")

    key_id = await key_of_acme(office)
    monkeypatch.setattr(office.limiter, "look", away)

    error = await office.refused("GET", "/admin/limits", params={"key_id": key_id}, status=503)

    assert error["code"] == "limits_unavailable"
    # Keys are still shown, with what the ledger says was spent.
    assert (await office.ask("GET", f"/admin/keys/{key_id}"))["budget"]["spent_usd"] == 0


async def test_nobody_but_an_administrator_comes_this_far(office: Office) -> None:
    office.caller = SOMEBODY

    await office.refused("GET", "/admin/limits", params={"key_id": "key_1"}, status=403)
    await office.refused("POST", "/admin/limits/reset", {"key_id": "key_1"}, status=403)
