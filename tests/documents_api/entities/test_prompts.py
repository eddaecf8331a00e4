from typing import Any

import pytest

from tests.documents_api.library import ACME, BETA, Library

BRIEF = {"name": "Brief", "content": "Be brief. {{instructions}}"}


async def test_a_prompt_is_made_read_changed_and_removed(library: Library) -> None:
    made = await library.ask("POST", "/prompts", {**BRIEF, "service_type": "summary"})
    path = f"/prompts/{made['id']}"

    assert (made["category"], made["type"], made["organization_id"]) == ("system", "standard", None)
    assert await library.ask("GET", path) == made
    changed = await library.ask("PATCH", path, {"service_type": None, "content": "Be long."})
    assert (changed["service_type"], changed["content"], changed["name"]) == (None, "Be long.", "Brief")
    assert changed["updated_at"] >= made["updated_at"]
    assert await library.ask("PATCH", path, {"content": "Be long."}) == changed
    listed = await library.ask("GET", "/prompts", params={"name": "Brief"})
    assert listed["items"] == [changed]
    await library.ask("DELETE", path)
    await library.refused("GET", path, status=404)
    assert [action for _, action, _ in await library.deeds()] == ["prompt.remove", "prompt.update", "prompt.create"]


async def test_nothing_of_a_prompts_text_stands_in_the_audit_log(library: Library) -> None:
    await library.ask("POST", "/prompts", BRIEF)

    assert "brief" not in str((await library.storage.audit()).rows[0].details)


async def test_a_copy_has_a_name_of_its_own_and_is_the_callers(library: Library) -> None:
    made = await library.ask("POST", "/prompts", BRIEF)
    library.become(ACME)

    copies = [await library.ask("POST", f"/prompts/{made['id']}/duplicate") for _ in range(2)]
    named = await library.ask("POST", f"/prompts/{made['id']}/duplicate", {"name": "Mine"})

    assert [copy["name"] for copy in (*copies, named)] == ["Brief (copy)", "Brief (copy 2)", "Mine"]
    assert {(copy["organization_id"], copy["content"]) for copy in copies} == {("acme", BRIEF["content"])}
    changed = await library.ask("PATCH", f"/prompts/{named['id']}", {"content": "Otherwise."})
    assert changed["content"] == "Otherwise."
    await library.refused("PATCH", f"/prompts/{made['id']}", {"content": "Otherwise."}, status=403)


async def test_a_prompt_of_an_organization_is_not_there_for_others(library: Library) -> None:
    library.become(ACME)
    made = await library.ask("POST", "/prompts", BRIEF)
    library.become(BETA)

    for method, path, body in (
        ("GET", f"/prompts/{made['id']}", None),
        ("PATCH", f"/prompts/{made['id']}", {"content": "x"}),
        ("DELETE", f"/prompts/{made['id']}", None),
        ("POST", f"/prompts/{made['id']}/duplicate", None),
    ):
        await library.refused(method, path, body, status=404)
    # The name is taken in that organization only.
    await library.ask("POST", "/prompts", BRIEF)
    await library.refused("POST", "/prompts", BRIEF, status=409)


async def test_a_prompt_that_a_flavor_names_stays(library: Library) -> None:
    made = await library.ask("POST", "/prompts", BRIEF)
    await library.made(flavors=[{"name": "one", "model": "chat", "system_prompt": made["id"]}])

    error = await library.refused("DELETE", f"/prompts/{made['id']}", status=409)

    assert error["error_code"] == "PROMPT_IN_USE"
    assert "`one`" in error["detail"]


@pytest.mark.parametrize(
    ("fields", "is_right"),
    [
        ({"content": "{}", "category": "user"}, True),
        ({"content": "{} {}", "category": "user"}, True),
        ({"content": "{} {} {}", "category": "user"}, False),
        ({"content": "none", "category": "user"}, False),
        ({"content": "{{document}}", "category": "system"}, False),
        ({"content": "{}", "type": "reduce"}, True),
        ({"content": "{} {}", "type": "reduce"}, False),
        ({"content": "Fields: {{fields}} in {{document}}", "type": "field_extraction"}, True),
    ],
)
async def test_a_prompt_is_checked_when_it_is_kept(library: Library, fields: Any, *, is_right: bool) -> None:
    answer = await library.send("POST", "/prompts", {"name": "x", **fields})

    assert answer.status_code == (201 if is_right else 400), answer.text
    if not is_right:
        assert answer.json()["error_code"] == "PROMPT_INVALID"


async def test_types_of_prompts_are_listed_with_their_placeholders(library: Library) -> None:
    listed = await library.ask("GET", "/prompt-types")

    assert [one["code"] for one in listed["items"]] == ["standard", "reduce", "field_extraction", "categorization"]
    assert "tags" in listed["items"][3]["placeholders"]
