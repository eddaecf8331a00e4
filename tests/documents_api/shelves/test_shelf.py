from tests.documents_api.library import ACME, BETA, Library

BRIEF = {"name": "Brief", "content": "Be brief."}


async def test_a_row_is_found_by_its_id_and_by_its_name_the_own_one_first(library: Library) -> None:
    shared = await library.ask("POST", "/prompts", BRIEF)
    library.become(ACME)
    assert (await library.ask("GET", "/prompts/Brief"))["id"] == shared["id"]
    own = await library.ask("POST", "/prompts", BRIEF)

    assert (await library.ask("GET", "/prompts/Brief"))["id"] == own["id"]
    assert (await library.ask("GET", f"/prompts/{shared['id']}"))["id"] == shared["id"]
    library.become(BETA)
    assert (await library.ask("GET", "/prompts/Brief"))["id"] == shared["id"]


async def test_a_list_has_what_whoever_asks_may_see_in_pages(library: Library) -> None:
    before = (await library.ask("GET", "/prompts"))["total"]
    library.become(ACME)
    await library.ask("POST", "/prompts", BRIEF)
    mine = await library.ask("GET", "/prompts", params={"page_size": 1, "page": before + 1})
    library.become(BETA)
    others = await library.ask("GET", "/prompts")

    assert [one["name"] for one in mine["items"]] == ["Brief"]
    assert (mine["total"], others["total"]) == (before + 1, before)
    error = await library.refused("GET", "/prompts", params={"pagesize": 1}, status=422)
    assert "there is no such parameter" in error["detail"]


async def test_a_new_name_that_is_taken_is_refused(library: Library) -> None:
    await library.ask("POST", "/prompts", BRIEF)
    other = await library.ask("POST", "/prompts", {**BRIEF, "name": "Other"})

    await library.refused("PATCH", f"/prompts/{other['id']}", {"name": "Brief"}, status=409)


async def test_whoever_acts_for_an_organization_makes_things_of_it(library: Library) -> None:
    library.become(library.caller, "acme")
    own = await library.ask("POST", "/prompts", BRIEF)
    shared = await library.ask("POST", "/prompts", {**BRIEF, "organization_id": None})

    assert (own["organization_id"], shared["organization_id"]) == ("acme", None)
    assert [owner for _, _, owner in await library.deeds()] == [None, "acme"]
