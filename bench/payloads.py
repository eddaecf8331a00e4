"""The bytes that travel in the benchmark, the same for every contestant."""

import json

SMALL, BURST, PACED, TRANSLATED = "bench-small", "bench-burst", "bench-paced", "bench-translated"
# What every client sends; only a gateway that was told to looks at it.
KEY = "sk-bench-0123456789"
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
_HEAD = {"id": "chatcmpl-bench0123456789", "created": 1700000000, "system_fingerprint": "fp_bench"}
_USAGE = {"prompt_tokens": 61, "completion_tokens": 27, "total_tokens": 88}


def question(model: str, *, stream: bool = False, size_bytes: int = 0, may_be_kept: bool = False) -> bytes:
    """Make the body of a chat request.

    Args:
        model: The name to ask for.
        stream: Whether to ask for server-sent events.
        size_bytes: Length of further text before the question.
        may_be_kept: Ask for the same answer each time, as a cache wants it.
    """
    messages = [{"role": "user", "content": _QUESTION}]
    if size_bytes:
        messages.insert(
            0, {"role": "system", "content": ("Lorem ipsum dolor sit amet. " * (size_bytes // 28 + 1))[:size_bytes]}
        )
    asked: dict[str, object] = {"model": model, "messages": messages}
    if may_be_kept:
        asked["temperature"] = 0
    return json.dumps(asked | ({"stream": True} if stream else {})).encode()


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
