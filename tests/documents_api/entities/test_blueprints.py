from typing import Any

import pytest
from msgspec import structs

from llmgateway.storage.admin.rows import Deed
from tests.documents_api.library import ACME, BETA, Library

CAREFUL = {"name": "careful", "settings": {"temperature": 0, "max_new_turns": 5, "failover_on": {"timeout": False}}}
MINUTES = {
    "name": "minutes",
    "service": {"name": "Minutes", "service_type": "summary", "description": "Of a meeting", "metadata": {"a": 1}},
    "flavors": [
        {"name": "fast", "processing_mode": "single_pass", "model": "chat"},
        {"name": "deep", "is_default": True, "system_prompt": "Write minutes."},
    ],
}


async def test_the_presets_that_come_with_the_program_make_flavors(library: Library) -> None:
    service = await library.made()

    single = await library.ask("POST", "/flavor-presets/single-pass/apply", {"service_id": service["id"]})
    deep = await library.ask(
        "POST", "/flavor-presets/iterative/apply", {"service_id": "notes", "name": "deep", "model": "auto"}
    )

    assert (single["name"], single["model"], single["processing_mode"]) == ("single-pass", "chat", "single_pass")
    assert (single["temperature"], single["top_p"], single["auto_fallback_to_iterative"]) == (0.2, 0.8, True)
    assert (deep["name"], deep["model"], deep["is_default"]) == ("deep", "auto", False)
    expected = {
        "top_p": 0.7,
        "reduce_summary": True,
        "consolidate_summary": True,
        "create_new_turn_after": 150,
        "summary_turns": 3,
        "max_new_turns": 12,
    }
    assert {name: deep[name] for name in expected} == expected
    # Its name is taken by now.
    await library.refused("POST", "/flavor-presets/single-pass/apply", {"service_id": "notes"}, status=409)


async def test_a_preset_of_ones_own_is_made_changed_and_used(library: Library) -> None:
    library.become(ACME)
    made = await library.ask("POST", "/flavor-presets", CAREFUL)
    await library.made()

    assert (made["built_in"], made["organization_id"], made["settings"]) == (False, "acme", CAREFUL["settings"])
    flavor = await library.ask("POST", f"/flavor-presets/{made['id']}/apply", {"service_id": "notes"})
    assert (flavor["temperature"], flavor["max_new_turns"], flavor["failover_on"]["timeout"]) == (0, 5, False)
    changed = await library.ask("PATCH", f"/flavor-presets/{made['id']}", {"settings": {"model": "auto"}})
    assert changed["settings"] == {"model": "auto"}
    body = {"service_id": "notes", "name": "x", "is_default": True}
    other = await library.ask("POST", "/flavor-presets/careful/apply", body)
    assert (other["model"], other["is_default"]) == ("auto", True)
    library.become(BETA)
    await library.refused("POST", f"/flavor-presets/{made['id']}/apply", {"service_id": "notes"}, status=404)


@pytest.mark.parametrize("settings", [{"temperature": 3}, {"name": "x"}, {"custom_params": {"api_key": "x"}}])
async def test_a_preset_says_only_what_a_flavor_takes(library: Library, settings: Any) -> None:
    error = await library.refused("POST", "/flavor-presets", {"name": "x", "settings": settings}, status=422)

    assert error["errors"][0]["loc"][:2] == ["body", "settings"]


async def test_a_preset_from_before_a_range_of_today_says_so(library: Library) -> None:
    made = await library.ask("POST", "/flavor-presets", CAREFUL)
    await library.made()
    row = await library.storage.entity("preset", made["id"])
    deed = Deed(actor="test", action="preset.update", subject=row.id)
    await library.storage.replace_entity("preset", structs.replace(row, settings={"top_p": 7}), deed)

    error = await library.refused("POST", "/flavor-presets/careful/apply", {"service_id": "notes"}, status=409)

    assert error["error_code"] == "BLUEPRINT_INVALID"
    assert "`top_p`" in error["detail"]


async def test_a_preset_changes_only_services_that_the_caller_may_change(library: Library) -> None:
    await library.made()
    library.become(ACME)

    await library.refused("POST", "/flavor-presets/iterative/apply", {"service_id": "notes"}, status=403)
    await library.refused("POST", "/flavor-presets/iterative/apply", {"service_id": "none"}, status=404)


async def test_a_template_makes_a_service_with_its_flavors_and_prompts(library: Library) -> None:
    template = await library.ask("POST", "/service-templates", MINUTES)

    made = await library.ask("POST", f"/service-templates/from-template/{template['id']}")
    library.become(ACME)
    own = await library.ask(
        "POST", "/service-templates/from-template/minutes", {"name": "Ours", "model": "auto", "description": None}
    )

    assert (made["name"], made["route"], made["description"], made["metadata"]) == (
        "Minutes",
        "minutes",
        "Of a meeting",
        {"a": 1},
    )
    assert [(flavor["name"], flavor["model"], flavor["is_default"]) for flavor in made["flavors"]] == [
        ("fast", "chat", False),
        ("deep", "auto", True),
    ]
    assert made["flavors"][1]["system_prompt"] == "Write minutes."
    assert (own["name"], own["organization_id"], own["description"]) == ("Ours", "acme", None)
    assert {flavor["model"] for flavor in own["flavors"]} == {"auto"}


async def test_the_templates_that_come_with_the_program_make_services(library: Library) -> None:
    library.become(ACME)

    for template in (await library.ask("GET", "/service-templates"))["items"]:
        made = await library.ask("POST", f"/service-templates/from-template/{template['id']}")
        assert made["organization_id"] == "acme"
        assert len([flavor for flavor in made["flavors"] if flavor["is_default"]]) == 1


@pytest.mark.parametrize(
    "flavors",
    [
        [],
        [{"name": "a"}, {"name": "a"}],
        [{"name": "a", "is_default": True}, {"name": "b", "is_default": True}],
        [{"name": "a", "temperature": 9}],
    ],
)
async def test_a_template_that_could_make_no_service_is_refused(library: Library, flavors: Any) -> None:
    await library.refused("POST", "/service-templates", {**MINUTES, "flavors": flavors}, status=422)
    made = await library.ask("POST", "/service-templates", MINUTES)
    await library.refused("PATCH", f"/service-templates/{made['id']}", {"flavors": flavors}, status=422)


async def test_a_template_is_changed_and_removed(library: Library) -> None:
    made = await library.ask("POST", "/service-templates", MINUTES)
    path = f"/service-templates/{made['id']}"

    changed = await library.ask("PATCH", path, {"description": "x", "service": {"name": "Others"}})

    assert (changed["description"], changed["service"], changed["flavors"]) == (
        "x",
        {"name": "Others"},
        made["flavors"],
    )
    assert (await library.ask("POST", f"/service-templates/from-template/{made['id']}"))["service_type"] == "generic"
    await library.ask("DELETE", path)
    await library.refused("GET", path, status=404)
