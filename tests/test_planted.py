"""The search for planted keys: what it finds, and the whole gateway driven through every way of failing."""

from pathlib import Path

import anyio
import pytest

from tests.conftest import Serve
from tests.planted import LeakError
from tests.running import Running, running
from tests.upstreams.anthropic_wire import AnthropicWire
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player
from tests.upstreams.step import Play, json_step, raw_step

PLAIN = "planted-plain-key-0042"
PROMPT = "a planted prompt about a merger"
CHAT = {"model": "chat", "messages": [{"role": "user", "content": PROMPT}]}


def echoing(player: Player) -> None:
    """Let every answer of a provider hold the key that it was called with."""
    player.always(json_step({"error": {"message": f"Wrong key {PLAIN}", "type": "x", "code": PLAIN}}, status=401))


@pytest.mark.parametrize("leaked", [PLAIN, "sk-ant-upstream"])
async def test_a_key_in_an_answer_is_found(tmp_path: Path, provider: Player, leaked: str) -> None:
    provider.always(json_step({"choices": [{"message": {"content": leaked}}]}))
    catalog = f"""
        providers: {{main: {{provider: openai, api_key: k, api_base: "{provider.base}"}}}}
        models: [{{name: chat, deployments: [{{provider: main, model: gpt-4o}}]}}]
    """

    with pytest.raises(LeakError, match=leaked):
        async with running(tmp_path, catalog) as served:
            await served.client.post("/v1/chat/completions", json=CHAT)


@pytest.mark.parametrize("leaked", ["planted-database-password", PROMPT, "key-of-a-test"])
async def test_a_key_or_a_prompt_in_a_log_line_is_found(tmp_path: Path, leaked: str) -> None:
    async def leak() -> None:
        async with running(tmp_path) as served:
            await served.client.post("/v1/chat/completions", json=CHAT, headers={"x-api-key": "key-of-a-test"})
            served.app.state.logger.info("said", text=f"<{leaked}>")

    with pytest.raises(LeakError, match=leaked):
        await leak()


async def test_a_prompt_in_a_span_is_found_although_no_span_is_exported(tmp_path: Path) -> None:
    async def leak() -> None:
        async with running(tmp_path) as served:
            # Where an answer is to end is told in its span, and in no line of the log.
            await served.client.post("/v1/chat/completions", json=CHAT | {"stop": PROMPT})

    with pytest.raises(LeakError, match=f"spans holds {PROMPT!r}"):
        await leak()


async def _fail_in_every_way(served: Running, player: Player) -> None:
    wrong: list[dict[str, object]] = [{}, {"messages": 7}, {"model": "unknown"}, {"temperature": "x"}, {"n": "x"}]
    for body in ([CHAT | twist for twist in wrong[1:]], [{"model": "chat"}]):
        for asked in body:
            await served.client.post("/v1/chat/completions", json=asked)
    for path in ("/nothing", f"/nothing?key={PLAIN}", "/v1/models/unknown", "/v1/chat/completions"):
        await served.client.get(path)
    await served.client.post("/v1/chat/completions", content=b"{broken")
    failures: list[Play] = [
        player.wire.error(status, f"No: {PLAIN}; Authorization: Bearer {PLAIN}", code=PLAIN)
        for status in (400, 401, 402, 403, 404, 422, 429, 500, 503)
    ]
    failures += [raw_step(PLAIN.encode()), lambda step: step.cut(pieces=1)]
    before = player.requests_total
    for number, failure in enumerate(failures):
        # Each at a model of its own: one that failed is not asked again for a while.
        player.script(failure)
        twist = {"model": f"main/claude-{number}", "stream": number == len(failures) - 1}
        await served.client.post("/v1/chat/completions", json=CHAT | twist)
    assert player.requests_total == before + len(failures)


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
async def test_pitfalls_099_and_135_no_way_of_failing_tells_a_key_or_a_prompt(gateway: Serve, kind: str) -> None:
    wire = OpenAIWire(PLAIN) if kind == "openai" else AnthropicWire(PLAIN)
    async with Player(wire) as player:
        served = await gateway(
            f"""
            providers: {{main: {{provider: {kind}, api_key: "${{KEY}}", api_base: "{player.base}"}}}}
            models:
              - {{name: chat, deployments: [{{provider: main, model: claude-sonnet-4-5}}]}}
              - {{name: "main/*", passthrough: true}}
            """,
            environ={"KEY": PLAIN},
            retry__max_retries=0,
        )

        await served.client.post("/v1/chat/completions", json=CHAT)
        await _fail_in_every_way(served, player)
        echoing(player)
        await served.client.post("/v1/chat/completions", json=CHAT)

        told = str(served.logs())
        assert "llm_request_error" in told
        assert PLAIN not in told
        assert PROMPT not in told


async def test_a_bug_tells_its_traceback_without_a_key(gateway: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    served = await gateway()

    def broken(*_: object, **__: object) -> None:
        raise LookupError(f"headers: {{'authorization': 'Bearer {PLAIN}', 'x-api-key': 'sk-ant-upstream'}}")

    monkeypatch.setattr("llmgateway.api.models.select", broken)
    answer = await served.client.get("/v1/models")

    line = await served.logged("unexpected_error")
    assert answer.status_code == 500
    assert PLAIN not in answer.text
    assert "LookupError" in line["exception"]
    assert "{'authorization': '[key removed]', 'x-api-key': '[key removed]'}" in line["exception"]


async def test_what_is_no_http_tells_nobodys_key(gateway: Serve) -> None:
    served = await gateway()
    host, _, port = served.url.removeprefix("http://").partition(":")

    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(f"nonsense {PLAIN}\r\nAuthorization: Bearer {PLAIN}\r\n\r\n".encode())
        answer = await stream.receive()

    assert b" 400 " in answer
    assert PLAIN.encode() not in answer
