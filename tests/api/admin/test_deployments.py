from typing import Any

import pytest

from tests.api.admin.office import SOMEBODY, Office

SECOND = {"name": "chat", "provider": "main", "model": "gpt-4o-mini"}


async def test_a_deployment_joins_its_model_once_the_catalog_heard_of_it(office: Office) -> None:
    body = {**SECOND, "weight": 2, "limits": {"concurrent": 3}, "prices_per_million": {"input": 1, "output": 2}}
    made = await office.ask("POST", "/admin/deployments", body)
    await office.reloaded()

    _, second = office.source.current.models["chat"].deployments
    assert (second.row_id, second.model, second.weight, second.limits.concurrent) == (made["id"], "gpt-4o-mini", 2, 3)
    assert second.prices is not None
    assert second.prices.input == 1e-06
    assert await office.ask("GET", f"/admin/deployments/{made['id']}") == made
    assert (await office.ask("GET", "/admin/deployments"))["items"] == [made]
    assert office.changes == 1


async def test_what_routing_asks_of_a_deployment_is_kept_and_served(office: Office) -> None:
    body = {"capabilities": ["streaming", "tools"], "tokenizer": "o200k_base", "probe": {"interval_s": 30}}
    made = await office.ask("POST", "/admin/deployments", {**SECOND, **body})
    await office.reloaded()

    _, second = office.source.current.models["chat"].deployments
    assert {name: made[name] for name in body} == body
    assert (set(second.capabilities), second.tokenizer, second.probe_s) == ({"streaming", "tools"}, "o200k_base", 30)
    assert "vision" in second.lacks


async def test_a_model_that_the_file_has_not_is_made(office: Office) -> None:
    await office.ask("POST", "/admin/deployments", {**SECOND, "name": "house/new"})
    await office.reloaded()

    assert office.source.current.resolve("house/new") is not None


async def test_a_provider_made_a_moment_ago_may_be_named(office: Office) -> None:
    await office.ask("POST", "/admin/providers", {"name": "house", "provider": "groq", "api_key": "k"})

    await office.ask("POST", "/admin/deployments", {**SECOND, "provider": "house"})


async def test_a_change_leaves_what_it_does_not_name(office: Office) -> None:
    made = await office.ask("POST", "/admin/deployments", {**SECOND, "context_length": 100})
    path = f"/admin/deployments/{made['id']}"

    changed = await office.ask("PATCH", path, {"weight": 5, "context_length": None, "name": "other"})
    await office.ask("PATCH", path, {"weight": 5})

    assert (changed["weight"], changed["context_length"], changed["name"]) == (5, None, "other")
    assert (changed["provider"], changed["model"], changed["created_at"]) == ("main", "gpt-4o-mini", made["created_at"])
    assert [action for action, _ in await office.deeds()] == ["deployment.update", "deployment.create"]


async def test_a_removed_one_is_no_longer_served(office: Office) -> None:
    made = await office.ask("POST", "/admin/deployments", SECOND)
    path = f"/admin/deployments/{made['id']}"
    await office.ask("DELETE", path)
    await office.reloaded()

    assert len(office.source.current.models["chat"].deployments) == 1
    for method in ("GET", "DELETE"):
        await office.refused(method, path, status=404)
    await office.refused("PATCH", path, {"weight": 1}, status=404)


@pytest.mark.parametrize(
    ("change", "param", "says"),
    [
        ({"provider": "mian"}, "provider", "there is no provider `mian`; the nearest is `main`"),
        ({"provider": "demo"}, "provider", "there is no provider `demo`"),
        ({"name": "demo/echo"}, "name", "is built in"),
        ({"name": "gpt-*"}, "name", "should match pattern"),
        ({"name": "http://elsewhere"}, "name", "should match pattern"),
        ({"name": "auto"}, "name", "picks among the others; choose another name"),
        ({"tokenizer": "/etc/passwd"}, "tokenizer", "must be a path within the catalog's folder"),
        ({"tokenizer": "o200_base"}, "tokenizer", "the nearest is 'o200k_base'"),
        ({"probe": {"interval_s": 0}}, "probe.interval_s", "greater than 0"),
        ({"weight": 0}, "weight", "greater than 0"),
        ({"prices_per_million": {"input": 1}}, "prices_per_million.output", "is missing; add it"),
        ({"capabilites": ["vision"]}, "capabilites", "the nearest is `capabilities`"),
    ],
)
async def test_what_is_wrong_is_named_with_its_path(office: Office, change: Any, param: str, says: str) -> None:
    error = await office.refused("POST", "/admin/deployments", {**SECOND, **change})

    assert error["param"] == param
    assert says in error["message"]


@pytest.mark.parametrize("name", ["name", "provider", "model"])
async def test_what_it_needs_cannot_be_taken_away(office: Office, name: str) -> None:
    made = await office.ask("POST", "/admin/deployments", SECOND)

    assert (await office.refused("PATCH", f"/admin/deployments/{made['id']}", {name: None}))["param"] == name


async def test_nobody_but_an_administrator_comes_this_far(office: Office) -> None:
    office.caller = SOMEBODY
    for method, path, body in (
        ("GET", "/admin/deployments", None),
        ("POST", "/admin/deployments", SECOND),
        ("GET", "/admin/deployments/a", None),
        ("PATCH", "/admin/deployments/a", {"weight": 1}),
        ("DELETE", "/admin/deployments/a", None),
    ):
        await office.refused(method, path, body, status=403)
