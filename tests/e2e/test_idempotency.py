"""Requests that are sent twice, as clients see them."""

import json
from typing import Any

import anyio
import httpx2

from tests.conftest import Serve
from tests.e2e.made_keys import ADMIN_KEY, make_key
from tests.running import Running
from tests.upstreams.server import Player

ASKED: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "one two three four five"}]}


async def ask(running: Running, key: str | None = "again-1", **fields: Any) -> httpx2.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await running.client.post("/v1/chat/completions", json=ASKED | fields, headers=headers)


async def test_the_same_request_twice_costs_once(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog, cache__enabled=False)

    first, second = await ask(g), await ask(g)

    assert second.content == first.content
    assert provider.requests_total == 1
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert (second.headers["x-cost-usd"], second.headers["x-attempts"]) == ("0", "0")


async def test_a_stream_is_sent_again_as_the_same_bytes(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog, cache__enabled=False)

    first, second = await ask(g, stream=True), await ask(g, stream=True)

    assert second.content == first.content
    assert second.content.endswith(b"data: [DONE]\n\n")
    assert second.headers["content-type"] == first.headers["content-type"]
    assert provider.requests_total == 1


async def test_another_body_with_the_same_key_is_a_conflict(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog, cache__enabled=False)
    await ask(g)

    refused = await ask(g, temperature=1)

    assert refused.status_code == 409
    error = refused.json()["error"]
    assert (error["type"], error["code"], error["param"]) == (
        "invalid_request_error",
        "idempotency_conflict",
        "Idempotency-Key",
    )
    assert provider.requests_total == 1


async def test_a_key_that_is_too_long_is_refused(gateway: Serve, catalog: str) -> None:
    g = await gateway(catalog)

    refused = await ask(g, "x" * 256)

    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "Idempotency-Key"


async def test_repeats_wait_for_the_first_answer(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog, cache__enabled=False)
    provider.always(lambda step: step.delayed(0.3))
    answers: list[bytes] = []

    async def one() -> None:
        answers.append((await ask(g)).content)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(one)

    assert len(set(answers)) == 1
    assert provider.requests_total == 1


async def test_an_error_is_not_the_answer_to_the_next_request(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog, cache__enabled=False, retry__max_retries=0)
    provider.script(provider.wire.error(500, "down"))

    assert (await ask(g)).status_code == 502
    assert (await ask(g)).status_code == 200
    assert provider.requests_total == 2


async def test_a_client_that_leaves_frees_its_key(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog, cache__enabled=False)
    provider.script(lambda step: step.delayed(10))
    async with anyio.create_task_group() as group:
        group.start_soon(ask, g)
        await provider.until(lambda: provider.in_flight == 1)
        group.cancel_scope.cancel()
    await provider.until(lambda: provider.in_flight == 0)

    with anyio.fail_after(5):
        assert (await ask(g)).status_code == 200


async def test_nobody_gets_the_answer_to_the_key_of_another(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog, cache__enabled=False, auth__mode="client", admin_key=ADMIN_KEY)
    keys = [(await make_key(g.url))["key"] for _ in range(2)]

    replies = []
    for key in keys:
        headers = {"Idempotency-Key": "same", "Authorization": f"Bearer {key}"}
        replies.append(await g.client.post("/v1/chat/completions", json=ASKED, headers=headers))

    assert [reply.status_code for reply in replies] == [200, 200]
    assert provider.requests_total == 2
    assert all("idempotent-replayed" not in reply.headers for reply in replies)
    assert json.loads(replies[0].content)
