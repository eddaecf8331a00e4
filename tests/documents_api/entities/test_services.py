from typing import Any

import pytest

from tests.documents_api.library import ACME, ALONE, ANYBODY, BETA, Library

NOTES = {
    "name": "Réunion du lundi",
    "service_type": "summary",
    "description": "Minutes",
    "metadata": {"team": "a"},
    "flavors": [
        {"name": "fast", "model": "chat", "processing_mode": "single_pass"},
        {"name": "slow", "model": "auto", "is_default": True, "temperature": 1},
    ],
}


async def test_a_service_is_made_with_its_flavors_and_found_by_id_and_by_route(library: Library) -> None:
    made = await library.ask("POST", "/services", NOTES)

    assert made["route"] == "reunion-du-lundi"
    assert made["model"] == "service/reunion-du-lundi"
    assert [flavor["name"] for flavor in made["flavors"]] == ["fast", "slow"]
    assert [flavor["is_default"] for flavor in made["flavors"]] == [False, True]
    assert made["default_flavor_id"] == made["flavors"][1]["id"]
    assert (made["flavors"][0]["processing_mode"], made["flavors"][0]["top_p"]) == ("single_pass", 0.9)
    assert await library.ask("GET", f"/services/{made['id']}") == made
    assert await library.ask("GET", "/services/reunion-du-lundi") == made
    assert [action for _, action, _ in (await library.deeds())[:3]] == [
        "service.create",
        "flavor.create",
        "flavor.create",
    ]
    assert library.changes == 3


async def test_services_are_listed_in_pages_and_by_what_they_are(library: Library) -> None:
    made = await library.ask("POST", "/services", NOTES)
    await library.ask("PATCH", f"/services/{made['id']}", {"is_active": False})

    page = await library.ask("GET", "/services", params={"page_size": 2, "page": 2})
    inactive = await library.ask("GET", "/services", params={"is_active": "false"})
    summaries = await library.ask("GET", "/services", params={"service_type": "summary", "page_size": 100})

    assert (page["page"], page["page_size"], len(page["items"])) == (2, 2, 2)
    assert page["total_pages"] == -(-page["total"] // 2)
    assert [one["id"] for one in inactive["items"]] == [made["id"]]
    assert {one["service_type"] for one in summaries["items"]} == {"summary"}
    error = await library.refused("GET", "/services", params={"is_active": "maybe"}, status=422)
    assert error["errors"][0]["loc"] == ["query", "is_active"]


async def test_a_change_leaves_what_it_does_not_name_and_null_clears(library: Library) -> None:
    made = await library.ask("POST", "/services", NOTES)
    path = f"/services/{made['id']}"

    changed = await library.ask("PATCH", path, {"name": "Monday", "description": None})
    before = library.changes
    again = await library.ask("PATCH", path, {"name": "Monday"})

    assert (changed["name"], changed["description"], changed["metadata"]) == ("Monday", None, {"team": "a"})
    # Keys may name the route: it is made of the name once.
    assert changed["route"] == made["route"]
    assert again == changed
    assert library.changes == before
    assert (await library.ask("PATCH", path, {"route": "monday"}))["model"] == "service/monday"
    assert (await library.refused("PATCH", path, {"name": None}, status=422))["errors"][0]["loc"] == ["body", "name"]


async def test_a_removed_service_takes_its_flavors_along(library: Library) -> None:
    made = await library.made()

    assert await library.ask("DELETE", f"/services/{made['route']}") == {"id": made["id"], "deleted": True}

    await library.refused("GET", f"/services/{made['id']}", status=404)
    await library.refused("GET", f"/flavors/{made['flavors'][0]['id']}", status=404)
    assert not [row for row in await library.storage.every("flavor") if row.service_id == made["id"]]


async def test_a_taken_name_is_refused_and_leaves_nothing_behind(library: Library) -> None:
    await library.made()
    flavors = len(await library.storage.every("flavor"))

    error = await library.refused("POST", "/services", {**NOTES, "name": "Notes"}, status=409)

    assert error["error_code"] == "ALREADY_EXISTS"
    assert len(await library.storage.every("flavor")) == flavors
    other = await library.made(name="Other")
    assert (await library.refused("PATCH", f"/services/{other['id']}", {"name": "Notes"}, status=409))["detail"]


async def test_two_names_with_one_route_get_two(library: Library) -> None:
    routes = [(await library.made(name=name))["route"] for name in ("Résumé", "Resume", "RESUME!")]

    assert routes == ["resume", "resume-2", "resume-3"]


async def test_each_organization_has_names_and_routes_of_its_own(library: Library) -> None:
    for caller in (ACME, BETA):
        library.become(caller)
        made = await library.made(name="Summarize")
        assert (made["route"], made["organization_id"]) == ("summarize", caller.organization)
        # Its own goes before everybody's.
        assert (await library.ask("GET", "/services/summarize"))["id"] == made["id"]


async def test_an_organization_sees_its_own_and_everybodys_and_no_other(library: Library) -> None:
    library.become(ACME)
    made = await library.made()
    library.become(BETA)

    there = await library.refused("GET", f"/services/{made['id']}", status=404)
    absent = await library.refused("GET", "/services/none", status=404)
    for method, path, body in (
        ("PATCH", f"/services/{made['id']}", {"name": "Mine"}),
        ("DELETE", f"/services/{made['id']}", None),
        ("POST", f"/services/{made['id']}/flavors", {"name": "x", "model": "chat"}),
        ("GET", f"/services/{made['id']}/flavors", None),
    ):
        await library.refused(method, path, body, status=404)

    assert there["detail"].replace(made["id"], "none") == absent["detail"]
    listed = await library.ask("GET", "/services", params={"page_size": 100})
    assert {one["organization_id"] for one in listed["items"]} == {None}
    library.become(ACME)
    assert made["id"] in {one["id"] for one in (await library.ask("GET", "/services"))["items"]}


async def test_only_administrators_change_what_is_everybodys(library: Library) -> None:
    shared = await library.made()
    for caller, organization in ((ACME, None), (ALONE, None), (ANYBODY, "acme")):
        library.become(caller, organization)
        for method, path, body in (
            ("PATCH", f"/services/{shared['id']}", {"name": "Mine"}),
            ("DELETE", f"/services/{shared['id']}", None),
            ("POST", "/services", {**NOTES, "organization_id": None}),
        ):
            error = await library.refused(method, path, body, status=403)
            assert error["error_code"] == "ADMIN_REQUIRED"

    library.become(ALONE)
    await library.refused("POST", "/services", NOTES, status=403)
    library.become(ANYBODY, may_administer=True)
    assert (await library.ask("PATCH", f"/services/{shared['id']}", {"name": "Ours"}))["name"] == "Ours"
    assert (await library.deeds())[0] == ("local", "service.update", None)


async def test_an_organization_is_named_only_by_those_who_may(library: Library) -> None:
    library.become(ACME)
    assert (await library.ask("POST", "/services", {**NOTES, "organization_id": "acme"}))["organization_id"] == "acme"
    await library.refused("POST", "/services", {**NOTES, "organization_id": "beta"}, status=404)
    library.become(ANYBODY)
    made = await library.ask("POST", "/services", {**NOTES, "organization_id": "beta"})
    assert made["organization_id"] == "beta"
    assert (await library.deeds())[0] == ("anyone", "service.create", "beta")
    listed = await library.ask("GET", "/services", params={"organization_id": "beta", "page_size": 100})
    assert made["id"] in {one["id"] for one in listed["items"]}


@pytest.mark.parametrize(
    ("change", "loc", "says"),
    [
        ({"service_type": "sumary"}, ["service_type"], "there is no type `sumary`; there are: categorization, chat"),
        ({"flavors": []}, ["flavors"], "name at least one"),
        ({"name": " x"}, ["name"], "must not begin or end with a blank"),
        ({"name": "a\nb"}, ["name"], "must be printable"),
        ({"nmae": "x"}, ["nmae"], "the nearest is `name`"),
        ({"route": "Not a route"}, ["route"], "should match pattern"),
        ({"flavors": [{"name": "x"}]}, ["flavors", 0, "model"], "is missing; add it"),
        ({"flavors": [{"name": "x", "model": "chat", "top_p": 0}]}, ["flavors", 0, "top_p"], "greater than 0"),
        (
            {"flavors": [{"name": name, "model": "chat", "is_default": True} for name in "ab"]},
            ["flavors", 1, "is_default"],
            "exactly one flavor is the default",
        ),
        ({"flavors": [{"name": "a", "model": "chat"}] * 2}, ["flavors"], "the same name"),
        (
            {"flavors": [{"name": "a", "model": "chat", "is_active": False}]},
            ["flavors", 0, "is_active"],
            "the default flavor must be active",
        ),
    ],
)
async def test_what_is_wrong_is_named_with_its_place(library: Library, change: Any, loc: Any, says: str) -> None:
    error = await library.refused("POST", "/services", {**NOTES, **change}, status=422)

    assert error["error_code"] == "VALIDATION_ERROR"
    assert error["errors"][0]["loc"] == ["body", *loc]
    assert says in error["errors"][0]["msg"]


async def test_a_service_on_which_others_rest_stays(library: Library) -> None:
    first = await library.made()
    await library.made(
        name="Other",
        flavors=[{"name": "x", "model": "chat", "failover_flavor_id": first["flavors"][0]["id"]}],
    )

    error = await library.refused("DELETE", f"/services/{first['id']}", status=409)

    assert error["error_code"] == "FLAVOR_IN_USE"


async def test_a_new_database_has_services_that_can_be_read(library: Library) -> None:
    library.become(ALONE)

    found = await library.ask("GET", "/services/meeting-minutes")

    assert {flavor["name"] for flavor in found["flavors"]} == {"single-pass", "iterative"}
    assert len((await library.ask("GET", "/services"))["items"]) == 9
