"""What a provider says when it fails, as the openai SDK's own exceptions: the same for every provider."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import openai
import pytest

from tests.e2e.providers.conftest import Play
from tests.e2e.providers.played import EVERY, PLAYED, user
from tests.running import Running
from tests.upstreams.anthropic_wire import error_event
from tests.upstreams.bedrock_wire import frame
from tests.upstreams.server import Player
from tests.upstreams.step import Step, json_step, raw_step, redirect_step

WORDS = "In the provider's own words."
TEXT = "one two three four five six seven eight nine ten"
# What the provider answers; what the SDK raises, with which status and code (`None`: the provider's own).
FAILURES = [
    (400, openai.BadRequestError, 400, None),
    (403, openai.InternalServerError, 502, "provider_auth_failed"),
    (404, openai.NotFoundError, 404, None),
    (422, openai.UnprocessableEntityError, 422, None),
    (429, openai.RateLimitError, 429, "provider_rate_limited"),
    (402, openai.InternalServerError, 502, "provider_quota_exhausted"),
    (500, openai.InternalServerError, 502, "provider_unavailable"),
    (503, openai.InternalServerError, 502, "provider_unavailable"),
    (529, openai.InternalServerError, 502, "provider_unavailable"),
]
BROKEN = {
    "web page": Step(headers={"content-type": "text/html"}).then(b"<html>Bad gateway</html>"),
    "a list": json_step([]),
    "nothing": Step(),
    "no HTTP": raw_step(b"\x00\x01garbage\r\n\r\n"),
    "hung up": raw_step(),
    "cut": json_step({"choices": []}).cut(after_bytes=5),
    "redirect": redirect_step("http://127.0.0.1:1/elsewhere"),
}


async def _ask(gateway: Running, model: str = "chat", *, stream: bool = False) -> list[str]:
    """Ask once and read to the end; the texts that came."""
    if not stream:
        answer = await gateway.openai.chat.completions.create(model=model, messages=user(TEXT))
        return [answer.choices[0].message.content or ""]
    texts: list[str] = []
    chunks = await gateway.openai.chat.completions.create(model=model, messages=user(TEXT), stream=True)
    async for chunk in chunks:
        texts.extend(choice.delta.content or "" for choice in chunk.choices)
    return texts


def _envelope(caught: pytest.ExceptionInfo[openai.APIStatusError]) -> dict[str, Any]:
    error = caught.value.response.json()["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert "127.0.0.1" not in error["message"]
    assert "Traceback" not in error["message"]
    assert "litellm" not in error["message"].lower()
    return dict(error)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("provider", EVERY)
async def test_a_failure_becomes_the_sdks_exception_with_the_providers_words(
    play: Play, provider: str, stream: bool
) -> None:
    gateway, player = await play(provider, apart=len(FAILURES), retry__max_retries=0)
    for number, (status, exception, ours, code) in enumerate(FAILURES):
        player.script(player.wire.error(status, WORDS))
        with pytest.raises(openai.APIStatusError) as caught:
            await _ask(gateway, f"chat-{number}", stream=stream)

        assert (type(caught.value), caught.value.status_code) == (exception, ours), status
        error = _envelope(caught)
        assert WORDS in error["message"], status
        assert code is None or error["code"] == code, status


@pytest.mark.parametrize("provider", EVERY)
async def test_a_rate_limit_hands_on_when_to_come_back(play: Play, provider: str) -> None:
    gateway, player = await play(provider, retry__max_retries=0)
    player.script(player.wire.error(429, WORDS, retry_after="7"))
    with pytest.raises(openai.RateLimitError) as caught:
        await _ask(gateway)

    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.response.headers["retry-after-ms"] == "7000"


async def test_a_rate_limit_may_name_a_date(play: Play) -> None:
    gateway, player = await play("openai", retry__max_retries=0)
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    player.script(player.wire.error(429, WORDS, retry_after=at))
    with pytest.raises(openai.RateLimitError) as caught:
        await _ask(gateway)

    assert 25 <= int(caught.value.response.headers["retry-after"]) <= 30


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("provider", EVERY)
async def test_a_prompt_that_does_not_fit_has_openais_code(play: Play, provider: str, stream: bool) -> None:
    gateway, player = await play(provider)
    player.always(player.wire.too_long())
    with pytest.raises(openai.BadRequestError) as caught:
        await _ask(gateway, stream=stream)

    assert caught.value.code == "context_length_exceeded"
    assert player.requests_total == 1


@pytest.mark.parametrize("provider", EVERY)
async def test_pitfall_056_numbers_in_a_text_change_nothing(play: Play, provider: str) -> None:
    gateway, player = await play(provider)
    player.always(player.wire.error(400, "Wait 403 ms: 429 tokens of 500, error 401 at line 404. rate limit; timeout"))
    with pytest.raises(openai.BadRequestError) as caught:
        await _ask(gateway)

    assert "429 tokens of 500" in _envelope(caught)["message"]
    assert player.requests_total == 1


@pytest.mark.parametrize("provider", EVERY)
async def test_a_failure_that_may_pass_is_tried_again_and_the_client_sees_nothing(play: Play, provider: str) -> None:
    gateway, player = await play(provider)
    player.script(player.wire.error(503, WORDS), player.wire.error(429, WORDS))

    assert await _ask(gateway) == [TEXT]
    assert player.requests_total == 3


@pytest.mark.parametrize("provider", EVERY)
async def test_pitfall_061_each_attempt_is_told_with_its_own_status(play: Play, provider: str) -> None:
    gateway, player = await play(provider, retry__max_retries=1)
    player.script(player.wire.error(503, WORDS), player.wire.error(429, WORDS))
    with pytest.raises(openai.RateLimitError) as caught:
        await _ask(gateway)

    attempts = _envelope(caught)["details"]["attempts"]
    told = [(attempt["status"], attempt["outcome"]) for attempt in attempts]
    assert told == [(503, "provider_unavailable"), (429, "provider_rate_limited")]


@pytest.mark.parametrize("provider", EVERY)
async def test_pitfall_016_an_empty_stream_is_an_error(play: Play, provider: str) -> None:
    gateway, player = await play(provider, retry__max_retries=0)
    player.always(lambda step: step.first(0))
    with pytest.raises(openai.InternalServerError) as caught:
        await _ask(gateway, stream=True)

    assert caught.value.status_code == 502
    assert _envelope(caught)["code"] == "provider_unavailable"


@pytest.mark.parametrize("provider", EVERY)
async def test_a_broken_answer_is_a_502(play: Play, provider: str) -> None:
    gateway, player = await play(provider, apart=len(BROKEN), retry__max_retries=0)
    for number, (name, broken) in enumerate(BROKEN.items()):
        player.script(broken)
        with pytest.raises(openai.InternalServerError) as caught:
            await _ask(gateway, f"chat-{number}")

        assert caught.value.status_code == 502, name
        assert _envelope(caught)["code"] == "provider_unavailable", name


@pytest.mark.parametrize("provider", EVERY)
async def test_json_that_is_no_answer_is_a_502(play: Play, provider: str) -> None:
    gateway, player = await play(provider, retry__max_retries=0)
    player.script(json_step({"hello": "world"}))
    with pytest.raises(openai.InternalServerError) as caught:
        await _ask(gateway)

    assert _envelope(caught)["code"] == "provider_unavailable"


@pytest.mark.parametrize("provider", EVERY)
async def test_pitfall_019_an_error_that_comes_with_200_is_an_error(play: Play, provider: str) -> None:
    gateway, player = await play(provider, retry__max_retries=0)
    body = player.wire.error(503, WORDS).body
    player.always(Step(headers={"content-type": "application/json"}).then(body))
    with pytest.raises(openai.InternalServerError) as caught:
        await _ask(gateway)

    assert caught.value.status_code == 502


async def _cut_short(gateway: Running, player: Player) -> tuple[str, openai.APIError]:
    texts: list[str] = []
    chunks = await gateway.openai.chat.completions.create(model="chat", messages=user(TEXT), stream=True)

    async def read() -> None:
        async for chunk in chunks:
            texts.extend(choice.delta.content or "" for choice in chunk.choices)

    with pytest.raises(openai.APIError) as caught:
        await read()
    await player.until(lambda: player.in_flight == 0)
    return "".join(texts), caught.value


@pytest.mark.parametrize("provider", EVERY)
async def test_pitfall_002_a_stream_that_breaks_off_is_never_taken_for_whole(play: Play, provider: str) -> None:
    gateway, player = await play(provider, retry__max_retries=0)
    player.script(
        lambda step: step.cut(pieces=len(step.pieces) // 2 + 1),
        lambda step: step.cut(pieces=len(step.pieces) // 2 + 1, reset=True),
        lambda step: step.first(len(step.pieces) // 2 + 1),
    )
    for ending in ("hung up", "reset", "ended in order"):
        text, error = await _cut_short(gateway, player)

        assert TEXT.startswith(text), ending
        assert 0 < len(text) < len(TEXT), ending
        assert error.code == "provider_unavailable", ending
    assert player.requests_total == 3, "after the first word nothing is tried again"


@pytest.mark.parametrize(
    ("provider", "event", "code"),
    [
        ("openai", b'data: {"error":{"message":"M","type":"server_error","code":null}}\n\n', "provider_unavailable"),
        ("azure", b'data: {"error":{"message":"M","code":"500"}}\n\n', "provider_unavailable"),
        ("anthropic", error_event("overloaded_error", "M"), "provider_unavailable"),
        ("anthropic", error_event("rate_limit_error", "M"), "provider_rate_limited"),
        (
            "gemini",
            b'data: {"error":{"code":503,"message":"M","status":"UNAVAILABLE"}}\r\n\r\n',
            "provider_unavailable",
        ),
        ("ollama", b'{"error":"M"}\n', "provider_unavailable"),
        ("bedrock", frame("throttlingException", {"message": "M"}, exception=True), "provider_rate_limited"),
        ("bedrock", frame("internalServerException", {"message": "M"}, exception=True), "provider_unavailable"),
    ],
)
async def test_pitfall_001_an_error_within_a_stream_is_an_error(
    play: Play, provider: str, event: bytes, code: str
) -> None:
    gateway, player = await play(provider, retry__max_retries=0)
    player.always(lambda step: step.first(len(step.pieces) // 2).then(event))
    text, error = await _cut_short(gateway, player)

    assert text
    assert error.code == code
    assert "M" in error.message


@pytest.mark.parametrize("provider", EVERY)
async def test_a_broken_stream_ends_without_done(play: Play, provider: str) -> None:
    gateway, player = await play(provider, retry__max_retries=0)
    player.always(lambda step: step.cut(pieces=len(step.pieces) // 2 + 1))
    body = {"model": "chat", "messages": user(TEXT), "stream": True}
    answer = await gateway.client.post("/v1/chat/completions", json=body)

    assert answer.status_code == 200
    assert b"[DONE]" not in answer.content
    last = json.loads(answer.content.rstrip().rpartition(b"data: ")[2])
    assert {"message", "type", "param", "code"} <= set(last["error"])


@pytest.mark.parametrize("provider", sorted({*EVERY} - {"ollama"}))
async def test_pitfall_135_a_key_that_the_provider_repeats_goes_no_further(play: Play, provider: str) -> None:
    statuses = (400, 401, 429, 500)
    gateway, player = await play(provider, apart=len(statuses), retry__max_retries=0)
    key = PLAYED[provider].key or "bedrock-secret-upstream"
    for number, status in enumerate(statuses):
        player.script(player.wire.error(status, f"{WORDS} You sent {key} to {player.url}/v1/secret-path."))
        with pytest.raises(openai.APIStatusError) as caught:
            await _ask(gateway, f"chat-{number}")

        assert WORDS in caught.value.response.text
        text = caught.value.response.text + str(gateway.logs())
        assert key not in text
        assert str(player.port) not in caught.value.response.text


@pytest.mark.parametrize("provider", EVERY)
async def test_a_provider_that_is_not_there_is_a_502(play: Play, provider: str) -> None:
    gateway, player = await play(provider, retry__max_retries=0)
    await player.__aexit__(None, None, None)
    with pytest.raises(openai.InternalServerError) as caught:
        await _ask(gateway)

    assert caught.value.status_code == 502
    assert _envelope(caught)["code"] == "provider_unavailable"
