from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec import structs

from llmgateway.storage.admin.rows import Deed, EntityKind
from tests.documents_api.library import ACME, BETA, Library

MARK = Deed(actor="test", action="flavor.update", subject="x")


async def defaults(library: Library, service: Any) -> list[str]:
    """Name the flavors that are shown as the default."""
    shown = await library.ask("GET", f"/services/{service['id']}")
    names = [flavor["name"] for flavor in shown["flavors"] if flavor["is_default"]]
    assert shown["default_flavor_id"] == next(flavor["id"] for flavor in shown["flavors"] if flavor["is_default"])
    return names


async def marked(library: Library, service: Any) -> list[str]:
    """Name the flavors whose rows are marked."""
    rows = await library.storage.every("flavor")
    return [row.name for row in rows if row.service_id == service["id"] and row.is_default]


async def test_a_flavor_is_made_read_and_changed(library: Library) -> None:
    service = await library.made()
    made = await library.added(service, "deep", temperature=0, stop=["END"], failover_on={"content_filter": True})
    path = f"/flavors/{made['id']}"

    assert await library.ask("GET", path) == made
    assert (made["service_id"], made["is_default"], made["stop"], made["temperature"]) == (
        service["id"],
        False,
        ["END"],
        0,
    )
    assert made["failover_on"] == {"timeout": True, "rate_limit": True, "model_error": True, "content_filter": True}
    changed = await library.ask("PATCH", path, {"max_cost_usd": 1.5, "failover_on": {"timeout": False}})
    assert (changed["max_cost_usd"], changed["stop"]) == (1.5, ["END"])
    assert changed["failover_on"] == {**made["failover_on"], "timeout": False}
    assert (await library.ask("PATCH", path, {"max_cost_usd": None, "description": "x"}))["max_cost_usd"] is None
    listed = await library.ask("GET", f"/services/{service['route']}/flavors")
    assert [flavor["name"] for flavor in listed["items"]] == ["one", "deep"]
    assert [flavor["name"] for flavor in (await library.ask("GET", f"/services/{service['id']}"))["flavors"]] == [
        "one",
        "deep",
    ]


async def test_what_is_not_said_has_the_contracts_default(library: Library) -> None:
    flavor = (await library.made())["flavors"][0]

    assert flavor["is_default"]
    expected = {
        "temperature": 0.2,
        "top_p": 0.9,
        "processing_mode": "iterative",
        "create_new_turn_after": 500,
        "max_new_turns": 10,
        "summary_turns": 3,
        "reduce_summary": False,
        "output_type": "markdown",
        "auto_fallback_to_iterative": True,
        "max_failover_depth": 3,
        "priority": 5,
        "default_ttl_seconds": None,
        "max_cost_usd": None,
        "system_prompt": None,
    }
    assert {name: flavor[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("field", "lowest", "highest", "below", "above"),
    [
        ("temperature", 0, 2, -0.1, 2.1),
        ("top_p", 0.01, 1, 0, 1.1),
        ("frequency_penalty", 0, 2, -1, 3),
        ("max_new_turns", 1, 50, 0, 51),
        ("summary_turns", 0, 20, -1, 21),
        ("priority", 0, 9, -1, 10),
        ("max_failover_depth", 1, 10, 0, 11),
        ("default_ttl_seconds", 1, 31_536_000, 0, 31_536_001),
        ("stop", [], list("abcd"), [""], list("abcde")),
        ("create_new_turn_after", 1, 1_000_000, 0, 1.5),
    ],
)
async def test_a_field_takes_its_range_and_nothing_beside_it(
    library: Library, field: str, lowest: Any, highest: Any, below: Any, above: Any
) -> None:
    path = f"/flavors/{(await library.made())['flavors'][0]['id']}"

    for value in (lowest, highest):
        assert (await library.ask("PATCH", path, {field: value}))[field] == value
    for value in (below, above, None if field != "default_ttl_seconds" else "1"):
        error = await library.refused("PATCH", path, {field: value}, status=422)
        assert error["errors"][0]["loc"][:2] == ["body", field]


async def test_there_is_always_exactly_one_default(library: Library) -> None:
    service = await library.made()
    two, three = await library.added(service, "two"), await library.added(service, "three")

    assert await defaults(library, service) == ["one"]
    assert (await library.ask("POST", f"/flavors/{two['id']}/set-default"))["is_default"]
    assert await defaults(library, service) == await marked(library, service) == ["two"]
    await library.ask("PATCH", f"/flavors/{three['id']}", {"is_default": True, "temperature": 1})
    assert await defaults(library, service) == await marked(library, service) == ["three"]
    await library.added(service, "four", is_default=True)
    assert await defaults(library, service) == await marked(library, service) == ["four"]
    await library.ask("POST", f"/flavors/{two['id']}/set-default")
    await library.ask("POST", f"/flavors/{two['id']}/set-default")
    assert await marked(library, service) == ["two"]


async def test_a_default_that_was_half_changed_is_the_new_one_and_stays_so(library: Library) -> None:
    service = await library.made()
    two = await library.added(service, "two")

    replace: Callable[..., Awaitable[bool]] = library.storage.replace_entity

    async def once(kind: EntityKind, row: Any, deed: Deed, *, instead_of: Any = None) -> bool:
        if not row.is_default:
            raise OSError("the process ended here")
        return await replace(kind, row, deed, instead_of=instead_of)

    library.storage.replace_entity = once  # type: ignore[method-assign]
    await library.refused("POST", f"/flavors/{two['id']}/set-default", status=503)
    library.storage.replace_entity = replace  # type: ignore[method-assign,assignment]

    assert await marked(library, service) == ["one", "two"]
    assert await defaults(library, service) == ["two"]
    # A change of the old one does not make it the default again.
    await library.ask("PATCH", f"/flavors/{service['flavors'][0]['id']}", {"temperature": 1})
    assert await defaults(library, service) == await marked(library, service) == ["two"]


async def test_the_default_and_the_last_one_stay(library: Library) -> None:
    service = await library.made()
    one = f"/flavors/{service['flavors'][0]['id']}"

    assert (await library.refused("DELETE", one, status=409))["error_code"] == "LAST_FLAVOR"
    two = await library.added(service, "two", is_active=False)
    assert (await library.refused("DELETE", one, status=409))["error_code"] == "DEFAULT_FLAVOR"
    assert (await library.refused("PATCH", one, {"is_active": False}, status=409))["error_code"] == "DEFAULT_FLAVOR"
    assert (await library.refused("PATCH", one, {"is_default": False}, status=409))["error_code"] == "DEFAULT_FLAVOR"
    path = f"/flavors/{two['id']}"
    assert (await library.refused("POST", f"{path}/set-default", status=409))["error_code"] == "DEFAULT_FLAVOR"
    await library.ask("PATCH", path, {"is_active": True, "is_default": True})
    assert await library.ask("DELETE", one) == {"id": service["flavors"][0]["id"], "deleted": True}
    assert await defaults(library, service) == ["two"]
    error = await library.refused(
        "POST",
        f"/services/{service['id']}/flavors",
        {"name": "x", "model": "chat", "is_default": True, "is_active": False},
        status=409,
    )
    assert error["error_code"] == "DEFAULT_FLAVOR"


async def test_two_of_a_service_have_two_names(library: Library) -> None:
    service = await library.made()
    two = await library.added(service, "two")

    taken = {"name": "one", "model": "chat"}
    await library.refused("POST", f"/services/{service['id']}/flavors", taken, status=409)
    await library.refused("PATCH", f"/flavors/{two['id']}", {"name": "one"}, status=409)
    await library.added(await library.made(name="Other"), "two")


async def test_one_on_which_others_rest_stays(library: Library) -> None:
    service = await library.made()
    two = await library.added(service, "two")
    await library.added(service, "three", fallback_flavor_id=two["id"])

    error = await library.refused("DELETE", f"/flavors/{two['id']}", status=409)

    assert error["error_code"] == "FLAVOR_IN_USE"
    assert "`three`" in error["detail"]


async def test_flavors_that_would_go_round_are_refused_with_the_way(library: Library) -> None:
    service = await library.made()
    one = service["flavors"][0]
    two = await library.added(service, "two", failover_flavor_id=one["id"])
    three = await library.added(service, "three", failover_flavor_id=two["id"])

    error = await library.refused("PATCH", f"/flavors/{one['id']}", {"failover_flavor_id": three["id"]})
    itself = await library.refused("PATCH", f"/flavors/{one['id']}", {"fallback_flavor_id": one["id"]})

    assert error["error_code"] == itself["error_code"] == "FAILOVER_CYCLE"
    assert [step["flavor_name"] for step in error["chain"]] == ["one", "three", "two", "one"]
    assert "one → three → two → one" in error["detail"]
    # A fallback is another matter: each has its own way.
    await library.ask("PATCH", f"/flavors/{one['id']}", {"fallback_flavor_id": three["id"]})


async def test_the_way_of_a_failover_can_be_read(library: Library) -> None:
    service = await library.made()
    one = service["flavors"][0]
    two = await library.added(service, "two", failover_flavor_id=one["id"], model="auto")
    three = await library.added(service, "three", failover_flavor_id=two["id"], max_failover_depth=1)

    shown = await library.ask("GET", f"/flavors/{three['id']}/failover-chain")

    assert [(step["depth"], step["flavor_name"], step["model"]) for step in shown["chain"]] == [
        (1, "two", "auto"),
        (2, "one", "chat"),
    ]
    assert [step["within_depth"] for step in shown["chain"]] == [True, False]
    assert (await library.ask("GET", f"/flavors/{one['id']}/failover-chain"))["chain"] == []


async def test_another_organizations_flavor_is_not_there(library: Library) -> None:
    library.become(ACME)
    service = await library.made()
    flavor_id = service["flavors"][0]["id"]
    library.become(BETA)

    for method, path, body in (
        ("GET", f"/flavors/{flavor_id}", None),
        ("PATCH", f"/flavors/{flavor_id}", {"temperature": 1}),
        ("DELETE", f"/flavors/{flavor_id}", None),
        ("POST", f"/flavors/{flavor_id}/set-default", None),
        ("GET", f"/flavors/{flavor_id}/failover-chain", None),
        ("POST", f"/flavors/{flavor_id}/test", {"prompt": "Hi"}),
    ):
        there = await library.refused(method, path, body, status=404)
        absent = await library.refused(method, path.replace(flavor_id, "none"), body, status=404)
        assert there["detail"].replace(flavor_id, "none") == absent["detail"]
    own = await library.made()
    rest = {"failover_flavor_id": flavor_id}
    error = await library.refused("PATCH", f"/flavors/{own['flavors'][0]['id']}", rest)
    assert error["error_code"] == "FAILOVER_FLAVOR_NOT_FOUND"


async def test_only_administrators_change_everybodys_flavors(library: Library) -> None:
    service = await library.made()
    flavor = service["flavors"][0]
    library.become(ACME)

    for method, path, body in (
        ("PATCH", f"/flavors/{flavor['id']}", {"temperature": 1}),
        ("DELETE", f"/flavors/{flavor['id']}", None),
        ("POST", f"/flavors/{flavor['id']}/set-default", None),
    ):
        assert (await library.refused(method, path, body, status=403))["error_code"] == "ADMIN_REQUIRED"
    assert (await library.ask("GET", f"/flavors/{flavor['id']}"))["name"] == "one"


async def test_a_flavor_whose_service_is_gone_is_gone(library: Library) -> None:
    service = await library.made()
    await library.storage.remove_entity("service", service["id"], MARK)
    library.services.changed("service", service["id"])

    await library.refused("GET", f"/flavors/{service['flavors'][0]['id']}", status=404)


async def test_a_change_that_somebody_else_made_meanwhile_is_kept(library: Library) -> None:
    service = await library.made()
    flavor_id = service["flavors"][0]["id"]
    replace: Callable[..., Awaitable[bool]] = library.storage.replace_entity
    others = ["first"]

    async def later(kind: EntityKind, row: Any, deed: Deed, *, instead_of: Any = None) -> bool:
        while others:
            now = await library.storage.entity("flavor", flavor_id)
            await replace("flavor", structs.replace(now, description=others.pop()), MARK)
        return await replace(kind, row, deed, instead_of=instead_of)

    library.storage.replace_entity = later  # type: ignore[method-assign]
    changed = await library.ask("PATCH", f"/flavors/{flavor_id}", {"temperature": 1})

    assert (changed["temperature"], changed["description"]) == (1, "first")
