from datetime import UTC, datetime, timedelta

import pytest

from tests.api.admin.office import SOMEBODY, Office


async def test_what_was_done_is_told_newest_first_and_chained(office: Office) -> None:
    await office.ask("POST", "/admin/organizations", {"id": "acme", "name": "Acme"})
    made = await office.ask("POST", "/admin/keys", {"name": "x", "organization_id": "acme"})
    await office.ask("DELETE", f"/admin/keys/{made['id']}")

    page = await office.ask("GET", "/admin/audit")

    assert [item["action"] for item in page["items"]] == ["key.revoke", "key.create", "organization.create"]
    assert [item["organization_id"] for item in page["items"]] == ["acme"] * 3
    assert all(newer["previous"] == older["hash"] for newer, older in zip(page["items"], page["items"][1:]))  # noqa: B905
    assert (page["total"], page["total_pages"]) == (3, 1)


async def test_it_is_asked_by_who_what_whose_and_when(office: Office) -> None:
    await office.ask("POST", "/admin/organizations", {"id": "acme", "name": "Acme"})
    await office.ask("POST", "/admin/keys", {"name": "x"})
    now = datetime.now(UTC)
    asked = {
        ("action", "key.create"): 1,
        ("actor", "admin"): 2,
        ("actor", "cli"): 0,
        ("organization_id", "acme"): 1,
        ("from", (now - timedelta(minutes=5)).isoformat()): 2,
        ("from", (now + timedelta(minutes=5)).isoformat()): 0,
        ("to", (now - timedelta(minutes=5)).isoformat()): 0,
        ("page_size", "1"): 2,
    }

    for (name, value), total in asked.items():
        page = await office.ask("GET", "/admin/audit", params={name: value})
        assert page["total"] == total, (name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("from", "yesterday"), ("to", "2026-11-01T00:00:00"), ("page", "0"), ("page_size", "101"), ("form", "2026-11-01")],
)
async def test_what_is_wrong_is_named(office: Office, name: str, value: str) -> None:
    assert (await office.refused("GET", "/admin/audit", params={name: value}))["param"] == name


async def test_nobody_but_an_administrator_comes_this_far(office: Office) -> None:
    office.caller = SOMEBODY

    await office.refused("GET", "/admin/audit", status=403)
