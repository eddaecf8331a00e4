from typing import Any

import pytest

from llmgateway.gateway.cache_admin import name_tag, tags_of
from llmgateway.stores.base import StoreAwayError
from tests.api.admin.office import SOMEBODY, Office


def keep(office: Office, digest: str, *, user: str = "ann", model: str = "chat", organization_id: str = "acme") -> None:
    tags = tags_of(user=user, model=model, organization_id=organization_id, key_id="key_1")
    office.values.put(f"answer:{digest}", b"{}", 60.0, (*tags, name_tag(user, model, digest)))


async def test_the_status_tells_what_is_kept_and_how_often_it_was_of_use(office: Office) -> None:
    keep(office, "1")
    office.tally.hits, office.tally.misses = 3, 1

    status = await office.ask("GET", "/admin/cache")

    assert (status["entries"], status["hits"], status["misses"], status["hit_rate"]) == (1, 3, 1, 0.75)
    assert status["size_bytes"] > 0


@pytest.mark.parametrize(
    ("asked", "cleared"),
    [
        ({}, 3),
        ({"model": "chat"}, 2),
        ({"organization_id": "other"}, 1),
        ({"key_id": "key_1"}, 3),
        ({"user": "bob"}, 1),
        ({"pattern": "ann_*"}, 2),
        ({"model": "chat", "user": "bob"}, 1),
        ({"model": "none"}, 0),
    ],
)
async def test_answers_are_forgotten_by_what_is_true_of_them(office: Office, asked: Any, cleared: int) -> None:
    keep(office, "1")
    keep(office, "2", user="bob")
    keep(office, "3", model="embed", organization_id="other")

    assert await office.ask("POST", "/admin/cache/clear", asked) == {"entries_cleared": cleared}

    assert (await office.ask("GET", "/admin/cache"))["entries"] == 3 - cleared
    (deed,) = (await office.storage.audit()).rows
    assert (deed.action, deed.details["entries_cleared"]) == ("cache.clear", cleared)
    assert "bob" not in str(deed)


async def test_a_misspelt_condition_does_not_clear_everything(office: Office) -> None:
    keep(office, "1")

    error = await office.refused("POST", "/admin/cache/clear", {"modle": "chat"})

    assert "the nearest is `model`" in error["message"]
    assert (await office.ask("GET", "/admin/cache"))["entries"] == 1


async def test_a_store_that_is_away_is_a_503(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object) -> None:
        raise StoreAwayError("redis.internal refused")

    monkeypatch.setattr(office.values, "status", away)
    monkeypatch.setattr(office.values, "clear", away)

    for method, path, body in (("GET", "/admin/cache", None), ("POST", "/admin/cache/clear", {})):
        error = await office.refused(method, path, body, status=503)
        assert error["code"] == "limits_unavailable"
        assert "internal" not in error["message"]


async def test_nobody_but_an_administrator_comes_this_far(office: Office) -> None:
    keep(office, "1")
    office.caller = SOMEBODY

    await office.refused("GET", "/admin/cache", status=403)
    await office.refused("POST", "/admin/cache/clear", {}, status=403)

    assert (await office.values.status()).entries == 1
