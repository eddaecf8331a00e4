import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.wire import sse
from llmgateway.wire.sse import ChatScan, EventCutter, EventTooLongError, WholeStream, payload, split_events
from tests.timing import relative_cost

LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
TEXTS = st.text(alphabet=st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=30)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    end = draw(LINE_ENDS)
    lines = st.builds(lambda name, text: f"{name}: {text}".encode(), st.sampled_from(["data", "event", ""]), TEXTS)
    events = draw(st.lists(st.lists(lines, min_size=1, max_size=3), max_size=6))
    return b"".join(b"".join(line + end for line in event) + end for event in events)


def cut(whole: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(whole) + 1) for place in places), len(whole)]
    return [whole[a:b] for a, b in pairwise(bounds)]


@given(streams(), st.lists(st.integers(min_value=0), max_size=40))
def test_pitfall_015_events_cut_at_any_byte_pass_unchanged(stream: bytes, places: list[int]) -> None:
    cutter = EventCutter()

    out = [cutter.feed(piece) for piece in cut(stream, places)]

    assert b"".join(out) + cutter.rest == stream
    assert cutter.rest in {b"", b"\n"}, "whole events wait for nothing"
    assert all(re.search(rb"(\n\n|\r\n\r\n|\r\r|\r\n|\n)\Z", piece) for piece in out if piece)


@given(streams())
def test_one_byte_at_a_time_gives_the_same_bytes(stream: bytes) -> None:
    cutter = EventCutter()

    out = b"".join(cutter.feed(bytes([byte])) for byte in stream)

    assert out + cutter.rest == stream


def test_a_split_emoji_leaves_whole() -> None:
    event = 'data: {"choices":[{"delta":{"content":"🙂"}}]}\n\n'.encode()
    middle = event.index("🙂".encode()) + 2
    cutter = EventCutter()

    assert cutter.feed(event[:middle]) == b""
    assert cutter.feed(event[middle:]) == event


def test_an_event_without_an_end_is_bounded() -> None:
    with pytest.raises(EventTooLongError):
        EventCutter(max_event_bytes=100).feed(b"data: " + b"x" * 100)


def test_split_events_keeps_every_byte() -> None:
    events = b"data: 1\r\n\r\nevent: x\ndata: 2\n\n: comment\r\r"

    pieces = split_events(events)

    assert pieces == [b"data: 1\r\n\r\n", b"event: x\ndata: 2\n\n", b": comment\r\r"]


def test_payload_joins_data_lines() -> None:
    assert payload(b"event: x\ndata: a\ndata:b\nid: 3\n\n") == b"a\nb"


DELTA = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":null}],"usage":null}\n\n'
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}\n\n'
USAGE = b'data: {"choices":[],"model":"m-1","usage":{"prompt_tokens":3,"completion_tokens":4}}\n\n'
TALK = b'data: {"choices":[{"index":0,"delta":{"content":"\\"usage\\": { data: [DONE]"},"finish_reason":null}]}\n\n'
FILTER = b'data: {"choices":[],"prompt_filter_results":[{"prompt_index":0}],"usage":null}\n\n'


@given(streams())
def test_the_payload_of_an_event_is_that_of_its_lines(stream: bytes) -> None:
    for event in split_events(stream):
        lines = [line for line in re.split(rb"\r\n|\n|\r", event) if line.startswith(b"data:")]
        assert payload(event) == b"\n".join(line[5:].removeprefix(b" ") for line in lines)


@given(
    st.lists(st.sampled_from([DELTA, STOP, USAGE, sse.DONE, TALK]), min_size=1, max_size=6),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.booleans(),
)
def test_what_comes_at_once_is_read_as_what_comes_event_by_event(
    events: list[bytes], end: bytes, include_usage: bool
) -> None:
    events = [event.replace(b"\n", end) for event in events]
    at_once, one_by_one = ChatScan(include_usage=include_usage), ChatScan(include_usage=include_usage)

    given_at_once = at_once.feed(b"".join(events))
    given_one_by_one = b""
    for event in events:
        if not one_by_one.done:
            given_one_by_one += one_by_one.feed(event)

    assert given_at_once == given_one_by_one
    assert (at_once.done, at_once.usage()) == (one_by_one.done, one_by_one.usage())


@pytest.mark.parametrize("before", [b"", b"\r\n"])
def test_time_grows_no_faster_than_the_usages_of_a_stream(before: bytes) -> None:
    few, many = (before + b'data: {"usage":{}}\n\n' * number + sse.DONE for number in (500, 8000))

    # Were it quadratic it would be 256 times.
    cost_of_few = relative_cost(lambda: ChatScan(include_usage=False).feed(few), number=3)
    assert relative_cost(lambda: ChatScan(include_usage=False).feed(many), number=1) < 60 * cost_of_few


async def test_a_stream_that_came_whole_is_one_chunk() -> None:
    stream, closed = WholeStream(DELTA + sse.DONE), WholeStream(sse.DONE)
    await closed.aclose()

    assert [chunk async for chunk in stream] == [DELTA + sse.DONE]
    assert [chunk async for chunk in stream] == []
    assert [chunk async for chunk in closed] == []


def test_the_usage_chunk_nobody_asked_for_is_taken_out() -> None:
    scan = ChatScan(include_usage=False)

    out = scan.feed(FILTER + DELTA + STOP + USAGE + sse.DONE)

    assert out == FILTER + DELTA + STOP + sse.DONE
    assert scan.done


def test_the_usage_chunk_that_was_asked_for_stays() -> None:
    scan = ChatScan(include_usage=True)

    assert scan.feed(STOP + USAGE) == STOP + USAGE
    usage = scan.usage()

    assert usage is not None
    assert usage.usage is not None
    assert (usage.usage.prompt_tokens, usage.usage.completion_tokens, usage.model) == (3, 4, "m-1")


def test_a_usage_beside_choices_is_counted_and_kept() -> None:
    event = b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n'
    scan = ChatScan(include_usage=False)

    assert scan.feed(event) == event
    assert scan.usage() is not None


def test_a_usage_told_beside_choices_is_told_alone_to_who_asked() -> None:
    last = b'data: {"id":"x","choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}}\n\n'
    scan = ChatScan(include_usage=True)

    out = scan.feed(DELTA + last) + scan.feed(sse.DONE)

    assert out == DELTA + last + b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":1}}\n\n' + sse.DONE


def test_text_that_speaks_of_usage_or_errors_is_text() -> None:
    event = rb'data: {"choices":[{"delta":{"content":"\"usage\":{\"error\":{ data: [DONE]"}}],"error":null}' + b"\n\n"
    scan = ChatScan(include_usage=False)

    assert scan.feed(event) == event
    assert scan.usage() is None
    assert scan.error is None
    assert not scan.done


def test_an_error_right_before_the_end_is_told_also_where_a_usage_was_asked_for() -> None:
    scan = ChatScan(include_usage=True)
    scan.feed(b'data: {"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}\n\n')

    assert scan.feed(b'data: {"error":{"message":"no"}}\n\n' + sse.DONE) == b""
    assert scan.error == b'{"error":{"message":"no"}}'


def test_what_follows_done_is_left_out() -> None:
    scan = ChatScan(include_usage=True)

    assert scan.feed(DELTA + b"data: [DONE]\r\n\r\ndata: more\r\n\r\n") == DELTA + b"data: [DONE]\r\n\r\n"


def test_the_first_done_is_the_end() -> None:
    scan = ChatScan(include_usage=False)

    assert scan.feed(DELTA + sse.DONE + DELTA + sse.DONE) == DELTA + sse.DONE
    assert scan.done


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error":{"message":"no","code":500}}\n\n',
        b'data: {"error":"no"}\n\n',
        b'event: error\ndata: {"message":"no"}\n\n',
    ],
)
def test_pitfall_001_an_error_event_is_seen_and_held_back(event: bytes) -> None:
    scan = ChatScan(include_usage=True)

    assert scan.feed(DELTA + event + STOP) == DELTA
    assert scan.error == payload(event)


def test_finished_tells_a_whole_answer_from_a_cut_one() -> None:
    cut_off, whole = ChatScan(include_usage=True), ChatScan(include_usage=True)

    cut_off.feed(DELTA)
    whole.feed(DELTA)
    whole.feed(STOP)
    whole.feed(USAGE)

    assert not cut_off.finished
    assert whole.finished
    assert whole.started


def test_the_usage_chunk_is_found_between_others_whatever_the_line_ends() -> None:
    for end in (b"\n", b"\r\n", b"\r"):
        scan = ChatScan(include_usage=False)
        events = [event.replace(b"\n", end) for event in (DELTA, USAGE, DELTA, USAGE, STOP, sse.DONE)]

        assert scan.feed(b"".join(events)) == b"".join([events[0], events[2], events[4], events[5]])
        assert scan.done


def test_a_text_that_speaks_of_done_is_not_the_end() -> None:
    event = b'data: {"choices":[{"delta":{"content":"data: [DONE]"}}]}\n\n'
    scan = ChatScan(include_usage=False)

    assert scan.feed(event) == event
    assert not scan.done
    assert scan.feed(event + sse.DONE) == event + sse.DONE
    assert scan.done
