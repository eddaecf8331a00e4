import gc
import json
import time
import weakref
from typing import Any, Self

import msgspec
import pytest

from llmgateway.catalog.model import Account, Deployment
from llmgateway.errors import (
    ContextLengthError,
    GatewayError,
    ProviderTimeoutError,
    UpstreamError,
    UpstreamRateLimitedError,
    UpstreamRejectedError,
)
from llmgateway.exchange import Attempt, Call, Chunks, Exchange, Streamed, Usage
from llmgateway.routing.failover.rescue import RescuedChunks, answering
from llmgateway.routing.heard import Heard
from llmgateway.wire.sse import DONE, payload, split_events
from tests.timing import relative_cost

STORY = "The fox ran over the hill. It was late, and the moon stood above the silver lake. Nobody saw it."
BROKEN = UpstreamError("main ended the stream before the answer was complete.", may_retry=True)


def chunk(delta: dict[str, Any], finish: str | None = None, *, id_: str = "first") -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": id_, "object": "chat.completion.chunk", "created": 1, "model": f"model-{id_}"}
    return b"data: " + msgspec.json.encode({**head, "choices": [choice]}) + b"\n\n"


def says(*texts: str, id_: str = "first") -> list[bytes]:
    return [
        chunk({"role": "assistant", "content": ""}, id_=id_),
        *(chunk({"content": text}, id_=id_) for text in texts),
    ]


def ends(id_: str = "second") -> list[bytes]:
    return [chunk({}, "stop", id_=id_), DONE]


class Played:
    """A metered stream: its chunks, then an error or its end; what it used is charged when it is closed."""

    def __init__(self, asked: Exchange, name: str, chunks: list[bytes], error: GatewayError | None = None) -> None:
        self._asked = asked
        self._chunks = list(chunks)
        self._errors = [error] if error else []
        self.closed = 0
        provider = Account(name, "openai", "openai")
        asked.attempts.append(Attempt(Deployment(provider, f"model-{name}"), 0.0, first_chunk=0.1))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._chunks:
            return self._chunks.pop(0)
        if not self._errors:
            raise StopAsyncIteration
        raise self._errors.pop()

    async def aclose(self) -> None:
        self.closed += 1
        before = self._asked.usage or Usage()
        if self.closed == 1:
            self._asked.usage = Usage(before.prompt_tokens + 10, before.completion_tokens + 3)


class Rescue:
    """A rescued stream with its script: each further deployment is a list of chunks, and an error at their end."""

    def __init__(
        self,
        first: list[bytes],
        *others: tuple[list[bytes], GatewayError | None] | GatewayError,
        error: GatewayError | None = BROKEN,
        may: bool = True,
        **fields: Any,
    ) -> None:
        self.asked = Exchange()
        body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "Tell"}], **fields}
        usage = bool(fields.get("stream_options"))
        self.call = Call(
            "chat", "chat", msgspec.json.encode(body), stream=True, include_usage=usage, n=fields.get("n", 1)
        )
        self.first = Played(self.asked, "one", first, error)
        self.stream = Streamed(self.first)
        self.others = list(others)
        self.texts: list[str] = []
        self.played: list[Played] = []
        self.chunks = self.stream.chunks = RescuedChunks(
            self.stream, self.call, self.asked, again=self.again, may=lambda: may
        )

    async def again(self, said: str, error: GatewayError) -> Streamed:
        self.texts.append(said)
        other = self.others.pop(0)
        if isinstance(other, GatewayError):
            raise other
        self.played.append(Played(self.asked, f"other{len(self.played)}", *other))
        return Streamed(self.played[-1])

    async def all(self) -> bytes:
        return b"".join([one async for one in self.chunks])

    async def until_it_breaks(self) -> tuple[bytes, GatewayError]:
        passed = b""
        try:
            async for one in self.chunks:
                passed += one
        except GatewayError as error:
            return passed, error
        raise AssertionError("it did not break")

    @property
    def event(self) -> dict[str, Any]:
        """What the record tells of the last rescue."""
        assert self.asked.events[-1].name == "rescue"
        return self.asked.events[-1].attributes


def read(events: bytes) -> list[dict[str, Any]]:
    return [json.loads(payload(one)) for one in split_events(events) if payload(one) not in {b"", b"[DONE]"}]


def text(events: bytes) -> str:
    return "".join(choice["delta"].get("content") or "" for one in read(events) for choice in one["choices"])


async def test_a_stream_that_lives_passes_as_it_is() -> None:
    chunks = [*says("a", "b"), *ends("first")]
    rescue = Rescue(chunks, error=None)

    assert await rescue.all() == b"".join(chunks)
    assert rescue.asked.events == []


@pytest.mark.parametrize("error", [BROKEN, ProviderTimeoutError("silent"), UpstreamRateLimitedError("slow down")])
async def test_pitfall_003_another_deployment_goes_on_with_the_stream(error: GatewayError) -> None:
    rescue = Rescue(says("The fox", " ran"), ([*says(" over the hill.", id_="second"), *ends()], None), error=error)

    events = await rescue.all()

    assert text(events) == "The fox ran over the hill."
    assert rescue.texts == ["The fox ran"]
    assert rescue.first.closed == 1
    told = {"from": "one/model-one", "to": "other0/model-other0", "ok": True, "cause": error.code, "said_chars": 11}
    assert rescue.event == told


@pytest.mark.parametrize("at", [4, 20, 40, 90])
@pytest.mark.parametrize("begins", ["exactly", "with its end", "anew"])
async def test_pitfall_004_the_partial_and_the_second_answer_are_one(at: int, begins: str) -> None:
    start = {"exactly": at, "with its end": max(0, at - 15), "anew": 0}[begins]
    second = [*says(*[STORY[n : n + 3] for n in range(start, len(STORY), 3)], id_="second"), *ends()]
    rescue = Rescue(says(STORY[: at // 2], STORY[at // 2 : at]), (second, None))

    assert text(await rescue.all()) == STORY


async def test_pitfall_011_the_client_sees_one_stream() -> None:
    rescue = Rescue(says("The fox", " ran"), ([*says(" on.", id_="second"), *ends()], None))

    events = await rescue.all()

    chunks = read(events)
    assert {(one["id"], one["model"], one["created"]) for one in chunks} == {("first", "model-first", 1)}
    assert sum("role" in choice["delta"] for one in chunks for choice in one["choices"]) == 1
    assert sum(choice["finish_reason"] is not None for one in chunks for choice in one["choices"]) == 1
    assert events.count(b"[DONE]") == 1
    assert events.endswith(DONE)


async def test_a_stream_that_breaks_before_its_text_is_begun_by_another() -> None:
    rescue = Rescue(says(), ([*says("All of it.", id_="second"), *ends()], None))

    events = await rescue.all()

    assert rescue.texts == [""]
    assert text(events) == "All of it."
    assert events.count(b'"role"') == 1


async def test_a_second_break_is_rescued_and_a_third_is_an_error() -> None:
    second, third = says(" ran over", id_="second"), says(" the hill", id_="third")
    good = Rescue(says("The fox"), (second, BROKEN), ([*third, *ends()], None))
    bad = Rescue(says("The fox"), (second, BROKEN), (third, BROKEN))

    assert text(await good.all()) == "The fox ran over the hill"
    assert good.texts == ["The fox", "The fox ran over"]
    passed, error = await bad.until_it_breaks()
    assert text(passed) == "The fox ran over the hill"
    assert error is BROKEN


async def test_an_answer_begun_anew_with_other_words_goes_to_the_next() -> None:
    other = says(STORY[:40] + " but the owl was awake", id_="second")
    rescue = Rescue(says(STORY[:60]), (other, None), ([*says(STORY[60:], id_="third"), *ends()], None))

    assert text(await rescue.all()) == STORY
    assert rescue.played[0].closed == 1
    assert [event.attributes["cause"] for event in rescue.asked.events] == ["provider_unavailable"] * 2


async def test_nobody_left_to_ask_is_the_error_it_was() -> None:
    rescue = Rescue(says("The fox"), ContextLengthError("too long"))

    passed, error = await rescue.until_it_breaks()

    assert text(passed) == "The fox"
    assert error is BROKEN
    assert (rescue.event["ok"], rescue.event["to"], rescue.event["cause"]) == (False, "", "context_length_exceeded")


@pytest.mark.parametrize(
    "error", [UpstreamRejectedError("bad", upstream_status=400), ContextLengthError("long"), GatewayError("bug")]
)
async def test_an_error_that_another_would_have_as_well_is_not_rescued(error: GatewayError) -> None:
    rescue = Rescue(says("The fox"), error=error)

    assert (await rescue.until_it_breaks())[1] is error
    assert rescue.texts == []
    assert rescue.asked.events == []


@pytest.mark.parametrize(
    "fields", [{"n": 2}, {"logprobs": True}, {"modalities": ["text", "audio"], "audio": {"voice": "alloy"}}]
)
async def test_an_answer_that_is_more_than_one_text_is_not_rescued(fields: dict[str, Any]) -> None:
    rescue = Rescue(says("The fox"), **fields)

    assert (await rescue.until_it_breaks())[1] is BROKEN


async def test_an_answer_whose_tool_calls_have_begun_is_not_rescued() -> None:
    call = {"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "f", "arguments": "{"}}]}
    rescue = Rescue([*says("Wait."), chunk(call)])

    assert (await rescue.until_it_breaks())[1] is BROKEN


async def test_nobody_is_asked_where_nobody_may_be_or_when_the_time_is_over() -> None:
    forbidden, late = Rescue(says("The fox"), may=False), Rescue(says("The fox"))
    late.asked.deadline = time.perf_counter() - 1

    assert (await forbidden.until_it_breaks())[1] is BROKEN
    assert (await late.until_it_breaks())[1] is BROKEN
    assert late.texts == forbidden.texts == []


@pytest.mark.parametrize("may", [True, False])
async def test_an_answer_that_was_finished_is_completed_without_asking_anybody(*, may: bool) -> None:
    plain = Rescue([*says("All."), chunk({}, "stop")], may=may)
    asked = Rescue([*says("All."), chunk({}, "stop")], may=may, stream_options={"include_usage": True})

    assert (await plain.all()) == b"".join([*says("All."), chunk({}, "stop"), DONE])
    events = await asked.all()
    assert events.endswith(DONE)
    assert read(events)[-1]["usage"] == {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}
    assert (plain.event["ok"], plain.event["to"]) == (True, "")


async def test_an_error_after_the_end_is_the_upstreams() -> None:
    rescue = Rescue([*says("All."), *ends("first")])

    passed, error = await rescue.until_it_breaks()

    assert passed.count(b"[DONE]") == 1
    assert error is BROKEN


async def test_the_usage_is_the_clients_and_the_exchange_has_what_both_used() -> None:
    usage = {"prompt_tokens": 60, "completion_tokens": 4, "total_tokens": 64}
    last = b"data: " + msgspec.json.encode({"id": "second", "choices": [], "usage": usage}) + b"\n\n"
    second = [*says(" ran.", id_="second"), chunk({}, "stop", id_="second"), last, DONE]
    rescue = Rescue(says("The fox"), (second, None), stream_options={"include_usage": True})

    events = await rescue.all()
    await rescue.chunks.aclose()

    (seen,) = [one["usage"] for one in read(events) if "usage" in one]
    assert seen == {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17}
    assert rescue.asked.usage == Usage(20, 6)


async def test_json_is_made_whole_or_is_an_error() -> None:
    fields: dict[str, Any] = {"response_format": {"type": "json_object"}}
    good = Rescue(says('{"a": 1,'), ([*says(' "b": 2}', id_="second"), *ends()], None), **fields)
    bad = Rescue(says('{"a": 1,'), ([*says('{"b": 2}', id_="second"), *ends()], None), **fields)

    assert json.loads(text(await good.all())) == {"a": 1, "b": 2}
    passed, error = await bad.until_it_breaks()
    assert b'"finish_reason":"stop"' not in passed
    assert "JSON" in error.message
    assert len(bad.texts) == 1


async def test_a_client_that_leaves_closes_the_stream_that_goes_on() -> None:
    rescue = Rescue(says("The fox"), ([*says(" ran", " far", id_="second"), *ends()], None))
    passed = [await anext(rescue.chunks) for _ in range(3)]

    await rescue.chunks.aclose()

    assert text(b"".join(passed)) == "The fox ran"
    assert (rescue.first.closed, rescue.played[0].closed) == (1, 1)
    assert [one async for one in rescue.chunks] == []


async def test_what_was_heard_is_what_the_client_heard() -> None:
    rescue = Rescue(says("The fox"), ([*says("The fox", " ran", id_="second"), *ends()], None))
    heard = rescue.stream.heard = Heard()
    for one in says("The fox"):
        heard.append(one)

    await rescue.all()

    assert rescue.stream.heard is not None
    assert rescue.stream.heard.text() == "The fox ran"
    assert rescue.stream.heard.tail().endswith(DONE)


async def test_the_attempt_that_answers_is_no_loser_of_a_race() -> None:
    asked = Exchange()
    where = Deployment(Account("a", "openai", "openai"), "m")
    first, loser = (Attempt(where, 0.0, first_chunk=0.1, outcome=outcome) for outcome in (None, "superseded"))
    asked.attempts = [first, loser, Attempt(where, 0.0)]

    assert answering(asked) is first
    assert answering(Exchange()) is None


async def test_a_rescued_stream_holds_nobody() -> None:
    """What is in a circle waits for the collector, and a stream holds its exchange and its body."""

    async def rescued() -> list[weakref.ref[Any]]:
        rescue = Rescue(says("The fox"), ([*says(" ran", id_="second"), *ends()], None), error=UpstreamError("x"))
        await rescue.all()
        await rescue.chunks.aclose()
        held = [weakref.ref(rescue.played[0]), weakref.ref(rescue.first)]
        rescue.stream.chunks = Same(b"")  # as whoever sends it to the client does
        vars(rescue).clear()
        return held

    gc.disable()
    try:
        held = await rescued()

        assert [one() for one in held] == [None, None]
    finally:
        gc.enable()


class Same:
    """A stream that always says the same."""

    def __init__(self, chunk: bytes) -> None:
        self._chunk = chunk

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        return self._chunk

    async def aclose(self) -> None:
        """Nothing is open."""


@pytest.mark.alone
def test_a_chunk_of_a_stream_that_lives_costs_little() -> None:
    """About half a microsecond more than the stream itself."""
    chunks = 1000
    rescue = Rescue([])
    rescue.stream.chunks = Same(chunk({"content": " word"}))

    async def drain(stream: Chunks) -> None:
        for _ in range(chunks):
            await stream.__anext__()

    def cost(stream: Chunks) -> float:
        def work() -> None:
            with pytest.raises(StopIteration):
                drain(stream).send(None)

        return relative_cost(work, number=5) / chunks

    rescued = RescuedChunks(rescue.stream, rescue.call, rescue.asked, again=rescue.again, may=lambda: True)

    assert cost(rescued) - cost(rescue.stream.chunks) < 0.4
