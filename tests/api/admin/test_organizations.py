from datetime import UTC, datetime
from typing import Any

import pytest

from llmgateway.caller import Budget
from llmgateway.gateway.purses import purse_of
from tests.api.admin.office import SOMEBODY, Office


async def test_an_organization_has_the_id_that_its_admin_gives_it(office: Office) -> None:
    body = {"id": "acme", "name": "Acme", "limits": {"concurrent": 5}, "budget": {"usd": 9}, "metadata": {"a": "b"}}
    made = await office.ask("POST", "/admin/organizations", body)

    assert (made["id"], made["name"], made["limits"]["concurrent"], made["metadata"]) == ("acme", "Acme", 5, {"a": "b"})
    assert (made["budget"]["usd"], made["budget"]["period"], made["budget"]["spent_usd"]) == (9, "month", 0)
    assert await office.ask("GET", "/admin/organizations/acme") == made
    assert (await office.ask("POST", "/admin/organizations", {"name": "Other"}))["id"].startswith("org_")
    assert (await office.ask("GET", "/admin/organizations"))["total"] == 2
    assert office.changes == 2


@pytest.mark.parametrize("again", [{"id": "acme", "name": "Other"}, {"id": "other", "name": "Acme"}])
async def test_a_name_or_an_id_is_given_once(office: Office, again: dict[str, str]) -> None:
    await office.ask("POST", "/admin/organizations", {"id": "acme", "name": "Acme"})

    error = await office.refused("POST", "/admin/organizations", again, status=409)

    assert error["code"] == "already_exists"
    assert (await office.ask("GET", "/admin/organizations"))["total"] == 1


async def test_a_change_leaves_what_it_does_not_name(office: Office) -> None:
    made = await office.ask("POST", "/admin/organizations", {"id": "acme", "name": "Acme", "budget": {"usd": 9}})

    changed = await office.ask("PATCH", "/admin/organizations/acme", {"limits": {"requests_per_day": 5}})

    assert changed["limits"]["requests_per_day"] == 5
    assert {**changed, "limits": None} == made
    cleared = await office.ask("PATCH", "/admin/organizations/acme", {"limits": None, "budget": None})
    assert (cleared["limits"], cleared["budget"]) == (None, None)
    assert (await office.deeds())[0] == ("organization.update", "acme")


async def test_one_that_has_keys_stays_until_they_are_revoked(office: Office) -> None:
    await office.ask("POST", "/admin/organizations", {"id": "acme", "name": "Acme"})
    key = await office.ask("POST", "/admin/keys", {"name": "x", "organization_id": "acme"})

    error = await office.refused("DELETE", "/admin/organizations/acme", status=409)
    assert (error["code"], "has 1 keys" in error["message"]) == ("organization_has_keys", True)

    await office.ask("DELETE", f"/admin/keys/{key['id']}")
    await office.ask("DELETE", "/admin/organizations/acme")
    for method in ("GET", "DELETE"):
        await office.refused(method, "/admin/organizations/acme", status=404)
    await office.refused("PATCH", "/admin/organizations/acme", {"name": "x"}, status=404)


async def test_what_was_spent_is_told_from_the_counters(office: Office) -> None:
    await office.ask("POST", "/admin/organizations", {"id": "acme", "name": "Acme", "budget": {"usd": 9}})
    await office.limiter.seed(purse_of("organization", "acme", Budget(9), datetime.now(UTC)), 1_250_000_000)

    shown = await office.ask("GET", "/admin/organizations/acme")
    (listed,) = (await office.ask("GET", "/admin/organizations"))["items"]

    assert shown["budget"]["spent_usd"] == listed["budget"]["spent_usd"] == 1.25


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"id": "a b", "name": "x"}, "id"),
        ({"id": "acme"}, "name"),
        ({"id": "acme", "name": "x", "tier": "y"}, "tier"),
        ({"id": "acme", "name": "x", "budget": 5}, "budget"),
    ],
)
async def test_what_is_wrong_is_named(office: Office, body: Any, param: str) -> None:
    assert (await office.refused("POST", "/admin/organizations", body))["param"] == param


async def test_a_name_cannot_be_taken_away(office: Office) -> None:
    await office.ask("POST", "/admin/organizations", {"id": "acme", "name": "Acme"})

    assert (await office.refused("PATCH", "/admin/organizations/acme", {"name": None}))["param"] == "name"


async def test_nobody_but_an_administrator_comes_this_far(office: Office) -> None:
    office.caller = SOMEBODY
    for method, path, body in (
        ("GET", "/admin/organizations", None),
        ("POST", "/admin/organizations", {"name": "x"}),
        ("GET", "/admin/organizations/a", None),
        ("PATCH", "/admin/organizations/a", {"name": "x"}),
        ("DELETE", "/admin/organizations/a", None),
    ):
        await office.refused(method, path, body, status=403)
