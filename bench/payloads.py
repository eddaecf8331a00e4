"""The bytes that travel in the benchmark, the same for every contestant."""

import json

SMALL, BURST, PACED, TRANSLATED = "bench-small", "bench-burst", "bench-paced", "bench-translated"
TOOLS, FAILOVER, IDLE, FLOOD = "bench-tools", "bench-failover", "bench-idle", "bench-flood"
TRANSLATED_STREAM = "bench-translated-stream"
# The models that speak OpenAI's wire.
RELAYED = (SMALL, BURST, PACED, TOOLS, IDLE, FLOOD)
# What every client sends, unless its gateway made a key of its own.
KEY = "sk-bench-0123456789"
# Stands in a question for a number that no other question has: a cache is asked, and never knows the answer.
SERIAL = b"000000000000"
TOOL_CALLS = 3
EVENTS = 100
PACE_S = 0.010
BIG_BYTES = 200 * 1024
# A paced event carries the moment it was sent (CLOCK_MONOTONIC, nanoseconds): one clock for all programs of a machine.
STAMP = rb'"content": ?"@(\d+)"'

_QUESTION = (
    "Here are the notes of a meeting. Say in two sentences what was decided and who does what until when. "
    "Anna: we ship on Friday if the load test holds. Ben: I run it tomorrow. Anna: then I write the notes for users."
)
_ANSWER = "They decided to ship on Friday if the load test holds. Ben tests tomorrow; Anna writes the notes for users."
_WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather of a day at a place.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}, "day": {"type": "string", "format": "date"}},
            "required": ["place", "day"],
        },
    },
}
_HEAD = {"id": "chatcmpl-bench0123456789", "created": 1700000000, "system_fingerprint": "fp_bench"}
_USAGE = {"prompt_tokens": 61, "completion_tokens": 27, "total_tokens": 88}


def question(model: str, *, stream: bool = False, size_bytes: int = 0, again: bool = False) -> bytes:
    """Make the body of a chat request whose answer a cache may keep.

    Args:
        model: The name to ask for.
        stream: Whether to ask for server-sent events.
        size_bytes: Length of further text before the question.
        again: Leave the serial number out, so that a cache knows the answer the second time.
    """
    text = _QUESTION if again else f"{_QUESTION} {SERIAL.decode()}"
    messages = [{"role": "user", "content": text}]
    if size_bytes:
        messages.insert(
            0, {"role": "system", "content": ("Lorem ipsum dolor sit amet. " * (size_bytes // 28 + 1))[:size_bytes]}
        )
    asked: dict[str, object] = {"model": model, "messages": messages, "temperature": 0}
    return json.dumps(asked | ({"stream": True} if stream else {})).encode()


def tool_loop() -> list[bytes]:
    """Make the bodies of one agent's turn: all but the last are answered with a tool call, the next has its result."""
    messages: list[dict[str, object]] = [{"role": "user", "content": f"{_QUESTION} {SERIAL.decode()}"}]
    bodies = []
    for number in range(TOOL_CALLS + 1):
        asked = {"model": TOOLS, "messages": messages, "temperature": 0, "tools": [_WEATHER]}
        bodies.append(json.dumps(asked).encode())
        call = tool_call(number)
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": '{"celsius": 7, "rain": false}'})
    return bodies


def tool_call(number: int) -> dict[str, object]:
    """Make what a model says when it wants a tool."""
    arguments = json.dumps({"place": "Berlin", "day": f"2026-01-{number + 1:02}"})
    return {"id": f"call_{number}", "type": "function", "function": {"name": "weather", "arguments": arguments}}


def tool_answer(number: int) -> bytes:
    """Make an answer that asks for a tool."""
    message = {"role": "assistant", "content": None, "tool_calls": [tool_call(number)]}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls"}
    return json.dumps(
        _HEAD | {"object": "chat.completion", "model": TOOLS, "choices": [choice], "usage": _USAGE}
    ).encode()


def answer() -> bytes:
    """Make a whole answer on OpenAI's wire, about 500 bytes."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": _ANSWER},
        "logprobs": None,
        "finish_reason": "stop",
    }
    return json.dumps(
        _HEAD | {"object": "chat.completion", "model": SMALL, "choices": [choice], "usage": _USAGE}
    ).encode()


def translated_answer() -> bytes:
    """Make a whole answer on Anthropic's wire."""
    return json.dumps(
        {
            "id": "msg_bench",
            "type": "message",
            "role": "assistant",
            "model": TRANSLATED,
            "content": [{"type": "text", "text": _ANSWER}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 61, "output_tokens": 27},
        }
    ).encode()


def translated_events() -> bytes:
    """Make a whole stream on Anthropic's wire, with as many deltas as the others have events."""
    message = {"id": "msg_bench", "type": "message", "role": "assistant", "model": TRANSLATED_STREAM, "content": []}
    usage = {"input_tokens": 61, "output_tokens": 1}
    told: list[dict[str, object]] = [
        {"type": "message_start", "message": message | {"stop_reason": None, "stop_sequence": None, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    ]
    for number in range(EVENTS):
        delta = {"type": "text_delta", "text": f" w{number}"}
        told.append({"type": "content_block_delta", "index": 0, "delta": delta})
    told += [
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": EVENTS},
        },
        {"type": "message_stop"},
    ]
    return b"".join(b"event: %b\n%b" % (str(one["type"]).encode(), _event(one)) for one in told)


def event(content: str, *, finish: str | None = None) -> bytes:
    """Make one event of a streamed answer on OpenAI's wire."""
    choice = {"index": 0, "delta": {"content": content}, "logprobs": None, "finish_reason": finish}
    return _event(_HEAD | {"object": "chat.completion.chunk", "model": BURST, "choices": [choice]})


def usage_event() -> bytes:
    """Make the event that follows the last when `stream_options.include_usage` was asked."""
    return _event(_HEAD | {"object": "chat.completion.chunk", "model": BURST, "choices": [], "usage": _USAGE})


def _event(content: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
