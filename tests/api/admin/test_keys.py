from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llmgateway.keys.hashing import hash_of
from tests.api.admin.office import SOMEBODY, Office

ALL = {
    "name": "billing",
    "organization_id": "acme",
    "models": ["gpt-4o*", "anthropic/*"],
    "tier": "house",
    "strategy": "fastest",
    "limits": {"requests_per_minute": 60, "cooldown_seconds": 0.5},
    "budget": {"usd": 50, "period": "week", "soft_usd": 40.5},
    "expires_at": "2030-01-01T01:00:00+01:00",
    "disabled": True,
    "metadata": {"team": "blue"},
}


async def acme(office: Office) -> None:
    await office.ask("POST", "/admin/organizations", {"id": "acme", "name": "Acme"})


async def test_a_key_is_shown_once_and_kept_as_its_hash(office: Office) -> None:
    made = await office.ask("POST", "/admin/keys", {"name": "billing"})
    shown = await office.ask("GET", f"/admin/keys/{made['id']}")

    key = made.pop("key")
    assert shown == made
    assert key.startswith(made["prefix"])
    row = await office.storage.key(made["id"])
    assert row is not None
    assert row.hash == hash_of(key)
    assert key[12:] not in str(await office.ask("GET", "/admin/keys"))
    files = [path for path in office.folder.rglob("*") if path.is_file()]
    assert any(b"billing" in path.read_bytes() for path in files)
    assert not any(key.encode() in path.read_bytes() for path in files)
    assert office.changes == 1


async def test_everything_that_is_said_of_a_key_is_kept(office: Office) -> None:
    await acme(office)
    answer = await office.send("POST", "/admin/keys", ALL)
    made = answer.json()

    assert answer.status_code == 201
    as_sent = ("name", "organization_id", "models", "tier", "strategy", "disabled", "metadata")
    assert {name: made[name] for name in as_sent} == {name: ALL[name] for name in as_sent}
    assert made["limits"]["requests_per_minute"] == 60
    assert made["limits"]["tokens_per_minute"] is None
    assert made["expires_at"] == "2030-01-01T00:00:00.000Z"
    budget = made["budget"]
    assert (budget["usd"], budget["period"], budget["soft_usd"], budget["spent_usd"]) == (50, "week", 40.5, 0)
    assert datetime.fromisoformat(budget["resets_at"]) > datetime.now(UTC)


async def test_a_change_leaves_what_it_does_not_name(office: Office) -> None:
    await acme(office)
    made = await office.ask("POST", "/admin/keys", ALL)
    path = f"/admin/keys/{made['id']}"

    changed = await office.ask("PATCH", path, {"models": ["gpt-4o-mini"], "budget": None, "disabled": False})

    assert (changed["models"], changed["budget"], changed["disabled"]) == (["gpt-4o-mini"], None, False)
    kept = ("name", "organization_id", "tier", "strategy", "limits", "expires_at", "metadata", "created_at", "prefix")
    assert {name: changed[name] for name in kept} == {name: made[name] for name in kept}
    assert await office.ask("GET", path) == changed


async def test_a_strategy_can_be_given_and_taken_away(office: Office) -> None:
    made = await office.ask("POST", "/admin/keys", {"name": "billing"})
    path = f"/admin/keys/{made['id']}"

    changed = await office.ask("PATCH", path, {"strategy": "cheapest"})
    again = await office.ask("PATCH", path, {"strategy": None})

    assert (made["strategy"], changed["strategy"], again["strategy"]) == (None, "cheapest", None)
    assert [action for action, _ in await office.deeds()] == ["key.update", "key.update", "key.create"]


async def test_a_change_of_nothing_is_written_down_nowhere(office: Office) -> None:
    made = await office.ask("POST", "/admin/keys", {"name": "billing"})
    before = office.changes

    await office.ask("PATCH", f"/admin/keys/{made['id']}", {"name": "billing"})

    assert await office.deeds() == [("key.create", made["id"])]
    assert office.changes == before


async def test_a_rotated_key_holds_beside_its_follower_for_as_long_as_was_asked(office: Office) -> None:
    made = await office.ask("POST", "/admin/keys", {"name": "billing", "models": ["chat"]})
    path = f"/admin/keys/{made['id']}/rotate"

    rotated = await office.ask("POST", path, {"overlap_seconds": 60})
    row = await office.storage.key(made["id"])
    assert row is not None
    assert (row.hash, row.previous_hash) == (hash_of(rotated["key"]), hash_of(made["key"]))
    assert row.previous_until is not None
    assert timedelta(seconds=50) < row.previous_until - datetime.now(UTC) <= timedelta(seconds=60)
    assert (rotated["models"], rotated["prefix"]) == (["chat"], rotated["key"][:12])

    at_once = await office.ask("POST", path, {})
    row = await office.storage.key(made["id"])
    assert row is not None
    assert (row.previous_hash, at_once["previous_until"]) == (None, None)
    assert office.changes == 3


async def test_a_revoked_key_is_gone_and_who_did_it_is_written_down(office: Office) -> None:
    made = await office.ask("POST", "/admin/keys", {"name": "billing"})
    path = f"/admin/keys/{made['id']}"

    assert await office.ask("DELETE", path) == {"id": made["id"], "deleted": True}

    for method in ("GET", "DELETE"):
        error = await office.refused(method, path, status=404)
        assert error["message"] == f"There is no key `{made['id']}`. GET /admin/keys lists them."
    await office.refused("PATCH", path, {"name": "x"}, status=404)
    await office.refused("POST", f"{path}/rotate", {}, status=404)
    assert await office.deeds() == [("key.revoke", made["id"]), ("key.create", made["id"])]
    assert office.changes == 2


async def test_keys_are_listed_page_by_page_and_by_organization(office: Office) -> None:
    await acme(office)
    made = [await office.ask("POST", "/admin/keys", {"name": f"k{n}", "budget": {"usd": n}}) for n in range(5)]
    own = await office.ask("POST", "/admin/keys", {"name": "own", "organization_id": "acme"})

    page = await office.ask("GET", "/admin/keys", params={"page": 2, "page_size": 2})
    ours = await office.ask("GET", "/admin/keys", params={"organization_id": "acme"})

    assert [item["id"] for item in page["items"]] == [key["id"] for key in made[2:4]]
    assert [item["budget"]["spent_usd"] for item in page["items"]] == [0, 0]
    assert (page["total"], page["page"], page["page_size"], page["total_pages"]) == (6, 2, 2, 3)
    assert [item["id"] for item in ours["items"]] == [own["id"]]
    assert all("key" not in item for item in page["items"])


@pytest.mark.parametrize(
    ("body", "param", "says"),
    [
        ({}, "name", "`name` is missing; add it"),
        ({"name": ""}, "name", "at least 1 character"),
        ({"name": "a\nb"}, "name", "must be printable, on one line"),
        ({"name": "x", "modles": []}, "modles", "there is no such field; the nearest is `models`"),
        ({"name": "x", "limits": {"requests_per_minut": 5}}, "limits.requests_per_minut", "`requests_per_minute`"),
        ({"name": "x", "limits": {"requests_per_minute": 0}}, "limits.requests_per_minute", "greater than or equal"),
        ({"name": "x", "limits": {"requests_per_minute": "5"}}, "limits.requests_per_minute", "valid integer"),
        ({"name": "x", "models": []}, "models", "name at least one, or leave it out"),
        ({"name": "x", "models": ["gpt-4o", "a b"]}, "models[1]", "should match pattern"),
        ({"name": "x", "tier": "huose"}, "tier", "no tier `huose`; the nearest is `house`"),
        ({"name": "x", "strategy": "fastst"}, "strategy", "'priority', 'weighted', 'round_robin'"),
        ({"name": "x", "organization_id": "acme"}, "organization_id", 'POST /admin/organizations {"id": "acme"'),
        ({"name": "x", "budget": {"usd": -1}}, "budget.usd", "greater than or equal to 0"),
        ({"name": "x", "budget": {"usd": 5, "period": "year"}}, "budget.period", "'day', 'week', 'month' or 'total'"),
        ({"name": "x", "budget": {"usd": 5, "soft_usd": 6}}, "budget.soft_usd", "is above `budget.usd`"),
        ({"name": "x", "expires_at": "2030-01-01T00:00:00"}, "expires_at", "with its offset, such as 2027-01-01"),
        ({"name": "x", "expires_at": "tomorrow"}, "expires_at", "with its offset, such as 2027-01-01T00:00:00Z"),
        ({"name": "x", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at", "is past"),
        ({"name": "x", "metadata": {"a": 1}}, "metadata.a", "valid string"),
        ({"name": "x", "disabled": "no"}, "disabled", "valid boolean"),
    ],
)
async def test_what_is_wrong_is_named_with_its_path(office: Office, body: Any, param: str, says: str) -> None:
    error = await office.refused("POST", "/admin/keys", body)

    assert (error["param"], error["code"]) == (param, "invalid_value")
    assert says in error["message"]
    assert (await office.storage.keys()).total == 0


async def test_a_name_cannot_be_taken_away(office: Office) -> None:
    made = await office.ask("POST", "/admin/keys", {"name": "billing"})

    error = await office.refused("PATCH", f"/admin/keys/{made['id']}", {"name": None})

    assert error["param"] == "name"


async def test_nobody_but_an_administrator_comes_this_far(office: Office) -> None:
    office.caller = SOMEBODY
    for method, path, body in (
        ("GET", "/admin/keys", None),
        ("POST", "/admin/keys", {"name": "x"}),
        ("GET", "/admin/keys/key_1", None),
        ("PATCH", "/admin/keys/key_1", {"name": "x"}),
        ("DELETE", "/admin/keys/key_1", None),
        ("POST", "/admin/keys/key_1/rotate", {}),
    ):
        assert (await office.refused(method, path, body, status=403))["code"] == "admin_required"
    assert office.changes == 0


async def test_the_audit_log_has_what_changed_but_no_secret_and_no_label(office: Office) -> None:
    made = await office.ask("POST", "/admin/keys", {"name": "billing", "metadata": {"team": "canary"}})
    await office.ask("PATCH", f"/admin/keys/{made['id']}", {"budget": {"usd": 5}})

    change, creation = (await office.storage.audit()).rows
    assert change.details == {"fields": ["budget"], "budget": {"usd": 5.0}}
    assert creation.details == {"fields": ["metadata", "name"], "name": "billing"}
    assert (creation.actor, creation.subject) == ("admin", made["id"])


async def test_a_database_that_is_away_is_a_503(office: Office) -> None:
    await office.database.close()

    error = await office.refused("GET", "/admin/keys", status=503)

    assert error["code"] == "ledger_unavailable"
