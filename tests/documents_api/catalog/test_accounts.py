from typing import Any

import pytest

from tests.documents_api.library import ACME, ANYBODY, Library

HOUSE = {
    "name": "house",
    "provider_type": "openai",
    "api_base_url": "https://house.example/v1",
    "api_key": "sk-canary-of-the-house",
    "security_level": 2,
}
FAST = {"provider_id": "main", "model_name": "chat", "model_identifier": "gpt-4.1-mini"}


async def test_a_provider_is_made_read_changed_and_removed(library: Library) -> None:
    made = await library.ask("POST", "/providers", HOUSE)

    assert (made["id"], made["provider_type"], made["security_level"]) == ("house", "openai", "high")
    assert (made["api_key_exists"], made["api_base_url"]) == (True, "https://house.example/v1")
    assert await library.ask("GET", "/providers/house") == made
    changed = await library.ask("PATCH", "/providers/house", {"security_level": "low"})
    assert (changed["security_level"], changed["api_key_exists"]) == ("low", True)
    assert (await library.ask("GET", "/providers"))["items"] == [changed]
    row = await library.storage.provider("house")
    assert row is not None
    assert library.seal.unseal(row.sealed_key or "").count("sk-canary-of-the-house") == 1
    await library.ask("DELETE", "/providers/house")
    await library.refused("GET", "/providers/house", status=404)
    assert [action for _, action, _ in await library.deeds()] == [
        "provider.remove",
        "provider.update",
        "provider.create",
    ]


async def test_everybody_reads_what_is_no_secret(library: Library) -> None:
    await library.ask("POST", "/providers", HOUSE)
    library.become(ACME)

    answer = await library.send("GET", "/providers")

    [shown] = answer.json()["items"]
    assert (shown["name"], shown["api_base_url"], shown["api_key_exists"]) == ("house", None, True)
    assert "canary" not in answer.text


async def test_only_administrators_write(library: Library) -> None:
    library.become(ACME)

    for method, path, body in (
        ("POST", "/providers", HOUSE),
        ("PATCH", "/providers/house", {"security_level": "low"}),
        ("DELETE", "/providers/house", None),
        ("POST", "/models", FAST),
        ("PATCH", "/models/dep_1", {"context_length": 5}),
        ("DELETE", "/models/dep_1", None),
    ):
        assert (await library.refused(method, path, body, status=403))["error_code"] == "ADMIN_REQUIRED"
    library.become(ANYBODY, may_administer=True)
    await library.ask("POST", "/providers", HOUSE)
    assert (await library.deeds())[0] == ("local", "provider.create", None)


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"provider_type": "opnai"}, 400, "`provider_type`: there is no such provider"),
        ({"api_base_url": "house.example"}, 422, "should match pattern"),
        ({"api_base_url": "https://a:b@house.example"}, 400, "`api_base_url` holds a login"),
        ({"security_level": 3}, 422, "'low', 'medium' or 'high'"),
        ({"security_level": True}, 422, "'low', 'medium' or 'high'"),
        ({"metadata": {"a": 1}}, 422, "a provider keeps none here"),
        ({"name": "main"}, 409, "There is a provider `main` already"),
    ],
)
async def test_a_provider_that_could_not_be_served_is_refused_in_the_words_of_here(
    library: Library, change: Any, status: int, says: str
) -> None:
    assert says in (await library.refused("POST", "/providers", {**HOUSE, **change}, status=status))["detail"]


async def test_a_key_is_never_sent_to_another_address(library: Library) -> None:
    await library.ask("POST", "/providers", HOUSE)

    error = await library.refused("PATCH", "/providers/house", {"api_base_url": "https://elsewhere.example"})

    assert error["detail"].startswith("`api_base_url`: a key is never sent to another address")


async def test_a_model_is_made_read_changed_and_removed(library: Library) -> None:
    body = {**FAST, "prices": {"input": 0.00000255, "output": 0.00001}, "context_length": 1000}
    made = await library.ask("POST", "/models", body)
    assert (made["is_active"], made["health_status"]) == (False, "unknown")
    await library.reloaded()

    shown = await library.ask("GET", f"/models/{made['id']}")

    assert (shown["provider_id"], shown["model_name"], shown["model_identifier"]) == ("main", "chat", "gpt-4.1-mini")
    assert (shown["is_active"], shown["security_level"]) == (True, "medium")
    assert shown["prices"] == {"input": 2.55e-06, "output": 1e-05, "cached": None, "reasoning": None}
    assert (shown["context_length"], shown["limits_source"], shown["prices_source"]) == (1000, "given", "given")
    assert shown["max_generation_source"] == "catalog"
    limits = await library.ask("GET", f"/models/{made['id']}/limits")
    assert (limits["model_id"], limits["context_length"]) == (made["id"], 1000)
    path = f"/models/{made['id']}"
    await library.ask("PATCH", path, {"context_length": None, "prices": None, "max_generation_length": 50})
    await library.reloaded()
    changed = await library.ask("GET", path)
    assert (changed["limits_source"], changed["max_generation_length"]) == ("catalog", 50)
    assert (await library.ask("GET", "/models", params={"provider_id": "main"}))["items"] == [changed]
    assert (await library.ask("GET", "/models", params={"provider_id": "other"}))["items"] == []
    await library.ask("DELETE", path)
    await library.refused("GET", path, status=404)


async def test_a_window_that_nobody_knows_is_called_estimated(library: Library) -> None:
    made = await library.ask("POST", "/models", {**FAST, "model_identifier": "of-our-own"})
    await library.reloaded()

    shown = await library.ask("GET", f"/models/{made['id']}/limits")

    assert (shown["context_length"], shown["limits_source"], shown["prices"]) == (8192, "estimated", None)


async def test_a_provider_has_a_model_once(library: Library) -> None:
    made = await library.ask("POST", "/models", FAST)
    other = await library.ask("POST", "/models", {**FAST, "model_identifier": "gpt-4.1"})

    await library.refused("POST", "/models", {**FAST, "model_name": "other"}, status=409)
    await library.refused("PATCH", f"/models/{other['id']}", {"model_identifier": "gpt-4.1-mini"}, status=409)
    await library.ask("PATCH", f"/models/{made['id']}", {"model_identifier": "gpt-4.1-mini", "model_name": "quick"})


async def test_a_model_that_the_key_may_not_use_is_not_there(library: Library) -> None:
    made = await library.ask("POST", "/models", {**FAST, "model_name": "private"})
    library.become(ACME)

    assert (await library.ask("GET", "/models"))["items"] == []
    there = await library.refused("GET", f"/models/{made['id']}", status=404)
    absent = await library.refused("GET", "/models/dep_1", status=404)
    assert there["detail"].replace(made["id"], "dep_1") == absent["detail"]


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"provider_id": "mian"}, 400, "`provider_id`: there is no provider `mian`; the nearest is `main`"),
        ({"model_name": "auto"}, 400, "choose another name"),
        ({"tokenizer": "/etc/passwd"}, 422, "must be a path within the catalog's folder"),
        ({"context_length": 0}, 422, "greater than or equal to 1"),
        ({"prices": {"input": 1}}, 422, "is missing"),
    ],
)
async def test_a_model_that_could_not_be_served_is_refused(
    library: Library, change: Any, status: int, says: str
) -> None:
    error = await library.refused("POST", "/models", {**FAST, **change}, status=status)

    assert says in error["detail"]
