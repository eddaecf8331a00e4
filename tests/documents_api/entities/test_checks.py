from typing import Any

import pytest
from msgspec import structs

from llmgateway.documents_api.entities.checks import chain_of
from llmgateway.keys.modes import ADMIN
from tests.documents_api.library import ACME, BETA, Library

NOBODY = "0199a1b2-0000-7000-8000-000000000000"


async def refused(library: Library, **fields: Any) -> dict[str, Any]:
    body = {"name": "Notes", "flavors": [{"name": "one", "model": "chat", **fields}]}
    return await library.refused("POST", "/services", body)


async def test_a_model_that_nobody_has_is_refused_with_the_nearest(library: Library) -> None:
    error = await refused(library, model="chta")

    assert error["error_code"] == "MODEL_NOT_FOUND"
    assert "the nearest is `chat`" in error["detail"]
    assert "chat" in error["available_models"]


async def test_an_organizations_flavor_has_only_models_that_the_caller_may_use(library: Library) -> None:
    library.become(ACME)

    hidden, absent = await refused(library, model="private"), await refused(library, model="nothing")

    assert hidden["detail"].replace("private", "nothing") == absent["detail"]
    assert "private" not in hidden["available_models"]
    made = await library.made(flavors=[{"name": "one", "model": "auto"}])
    error = await library.refused("PATCH", f"/flavors/{made['flavors'][0]['id']}", {"model": "private"})
    assert error["error_code"] == "MODEL_NOT_FOUND"
    library.become(BETA)
    await library.made(flavors=[{"name": "one", "model": "private"}])


async def test_a_model_is_looked_at_again_only_when_another_is_named(library: Library) -> None:
    library.become(BETA)
    made = await library.made(flavors=[{"name": "one", "model": "private"}])
    # Another key of the same organization, which may not use that model, changes something else.
    library.become(ACME, "beta")

    assert (await library.ask("PATCH", f"/flavors/{made['flavors'][0]['id']}", {"temperature": 1}))["temperature"] == 1


async def test_a_service_runs_no_service(library: Library) -> None:
    assert (await refused(library, model="service/summarize"))["error_code"] == "MODEL_NOT_FOUND"


@pytest.mark.parametrize(
    ("mode", "prompt", "actual", "required"),
    [
        ("single_pass", "Sum up.", 0, 1),
        ("single_pass", "{} and {}", 2, 1),
        ("iterative", "{}", 1, 2),
        ("iterative", "{} {} {}", 3, 2),
        ("map_reduce", "{} {}", 2, 1),
        ("single_pass", "{{document}} {{document}}", 2, 1),
    ],
)
async def test_a_prompt_that_does_not_fit_its_mode_is_refused_with_both_counts(
    library: Library, mode: str, prompt: str, actual: int, required: int
) -> None:
    error = await refused(library, processing_mode=mode, user_prompt=prompt)

    assert (error["error_code"], error["actual"], error["required"]) == ("PROMPT_INVALID", actual, required)
    assert error["detail"].startswith("`user_prompt`: ")


async def test_a_change_of_the_mode_alone_looks_at_the_prompt_again(library: Library) -> None:
    made = await library.made(flavors=[{"name": "one", "model": "chat", "user_prompt": "{} {}"}])
    path = f"/flavors/{made['flavors'][0]['id']}"

    error = await library.refused("PATCH", path, {"processing_mode": "single_pass"})

    assert error["error_code"] == "PROMPT_INVALID"
    await library.ask("PATCH", path, {"processing_mode": "single_pass", "user_prompt": "{}"})


async def test_a_flavor_names_a_prompt_that_its_organization_sees(library: Library) -> None:
    shared = await library.ask("POST", "/prompts", {"name": "a", "content": "Be brief."})
    library.become(BETA)
    others = await library.ask("POST", "/prompts", {"name": "b", "content": "Be long."})
    library.become(ACME)
    own = await library.ask("POST", "/prompts", {"name": "c", "content": "{} {}", "category": "user"})

    for prompt in (shared, {"id": shared["id"].upper()}):
        await library.made(name=prompt["id"], flavors=[{"name": "x", "model": "chat", "system_prompt": prompt["id"]}])
    for unknown in (others["id"], NOBODY):
        assert (await refused(library, system_prompt=unknown))["error_code"] == "PROMPT_NOT_FOUND"
    error = await refused(library, system_prompt=shared["id"], user_prompt=own["id"], processing_mode="single_pass")
    assert (error["error_code"], error["required"]) == ("PROMPT_INVALID", 1)


async def test_a_tokenizer_is_an_encoding_and_never_a_file(library: Library) -> None:
    made = await library.made(flavors=[{"name": "one", "model": "chat", "tokenizer_override": "cl100k_base"}])

    for name in ("/etc/passwd", "tokenizers/x.json", "o200"):
        body = {"tokenizer_override": name}
        error = await library.refused("PATCH", f"/flavors/{made['flavors'][0]['id']}", body, status=422)
        assert "write one of cl100k_base, o200k_base" in error["detail"]


async def test_flavors_rest_on_flavors_that_are_there(library: Library) -> None:
    for link in ("fallback_flavor_id", "failover_flavor_id"):
        error = await refused(library, **{link: NOBODY})
        assert error["error_code"] == f"{link.removesuffix('_id')}_not_found".upper()


async def test_an_organizations_flavor_rests_on_everybodys_and_not_the_other_way(library: Library) -> None:
    shared = (await library.made())["flavors"][0]
    library.become(ACME)
    flavors = [{"name": "x", "model": "chat", "failover_flavor_id": shared["id"]}]
    own = await library.made(name="Own", flavors=flavors)
    library.become(ACME, may_administer=True)

    body = {"failover_flavor_id": own["flavors"][0]["id"]}
    error = await library.refused("PATCH", f"/flavors/{shared['id']}", body)

    assert error["error_code"] == "FAILOVER_FLAVOR_NOT_FOUND"


def test_a_chain_ends_where_it_begins_again() -> None:
    after = {"a": "b", "b": "c", "c": "b"}

    assert chain_of("a", after.get) == ["a", "b", "c", "b"]
    assert chain_of("d", after.get) == ["d"]


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "api_base",
        "base_url",
        "messages",
        "model",
        "stream",
        "max_tokens",
        "extra_headers",
        "aws_region_name",
    ],
)
async def test_own_parameters_never_replace_a_key_an_address_or_the_messages(library: Library, name: str) -> None:
    path = f"/flavors/{(await library.made())['flavors'][0]['id']}"

    error = await library.refused("PATCH", path, {"custom_params": {name: "x"}}, status=422)

    assert "cannot be set here" in error["detail"]
    params = {"seed": 7, "prompt_cache_key": "a", "reasoning_effort": "low"}
    assert (await library.ask("PATCH", path, {"custom_params": params}))["custom_params"] == params


async def test_a_flavor_rests_on_none_whose_model_its_maker_may_not_use(library: Library) -> None:
    premium = await library.made(name="Premium", organization_id=None, flavors=[{"name": "big", "model": "private"}])
    library.become(ACME)
    rests = [{link: premium["flavors"][0]["id"]} for link in ("fallback_flavor_id", "failover_flavor_id")]

    for fields in rests:
        body = {"name": "Notes", "flavors": [{"name": "one", "model": "chat", **fields}]}
        error = await library.refused("POST", "/services", body, 403)
        assert error["error_code"] == "MODEL_NOT_ALLOWED"
    made = await library.made()
    await library.refused("PATCH", f"/flavors/{made['flavors'][0]['id']}", rests[0], 403)
    library.become(BETA)
    await library.made(flavors=[{"name": "one", "model": "chat", **rests[0]}])


async def test_a_key_makes_no_flavor_more_urgent_than_its_owner_allows(library: Library) -> None:
    library.become(ACME)

    body = {"name": "Notes", "flavors": [{"name": "one", "model": "chat", "priority": 2}]}
    error = await library.refused("POST", "/services", body, 403)
    assert (error["error_code"], error["most_urgent"]) == ("PRIORITY_NOT_ALLOWED", 3)
    made = await library.made(flavors=[{"name": "one", "model": "chat", "priority": 3}])
    path = f"/flavors/{made['flavors'][0]['id']}"
    await library.refused("PATCH", path, {"priority": 0}, 403)
    library.become(ADMIN, "acme")
    assert (await library.ask("PATCH", path, {"priority": 0}))["priority"] == 0
    # What an administrator has set stays when a key changes something else.
    library.become(ACME)
    assert (await library.ask("PATCH", path, {"temperature": 1}))["priority"] == 0


async def test_what_a_key_may_not_run_it_gives_no_name_that_it_may(library: Library) -> None:
    library.become(BETA)
    made = await library.made(name="Secret", flavors=[{"name": "one", "model": "private"}])
    library.become(structs.replace(ACME, models=("chat", "service/notes", "service/secret:mine")), "beta")

    for path, body in (("services", {"route": "notes"}), ("flavors", {"name": "mine"})):
        subject = made["id"] if path == "services" else made["flavors"][0]["id"]
        error = await library.refused("PATCH", f"/{path}/{subject}", body, 403)
        assert error["error_code"] == "MODEL_NOT_ALLOWED"
    library.become(BETA)
    await library.ask("PATCH", f"/services/{made['id']}", {"route": "notes"})
    await library.ask("PATCH", f"/flavors/{made['flavors'][0]['id']}", {"name": "mine"})


@pytest.mark.parametrize("where", ["metadata", "custom_params", "output_schema"])
async def test_what_is_kept_in_memory_is_small(library: Library, where: str) -> None:
    large = {"description": "x" * 70_000}
    flavor = {"name": "one", "model": "chat", **({} if where == "metadata" else {where: large})}
    body = {"name": "Notes", "flavors": [flavor], **({"metadata": large} if where == "metadata" else {})}

    error = await library.refused("POST", "/services", body, 422)

    assert "65536 is the most" in error["detail"]
