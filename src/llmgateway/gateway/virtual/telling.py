"""A job's answer in the form of OpenAI's chat: whole, or chunk by chunk."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

_JSON = msgspec.json.Encoder()


class Frame:
    """What all pieces of one answer have in common.

    Args:
        created: When the job was made, the same in all pieces.
        demo: Whether the built-in demo model answered.
    """

    def __init__(self, job_id: str, model: str, created: datetime, *, demo: bool = False) -> None:
        self._fields: dict[str, Any] = {
            "id": f"chatcmpl-{job_id}",
            "created": int(created.timestamp()),
            "model": model,
        }
        if demo:
            self._fields["system_fingerprint"] = "demo"

    def whole(self, text: str, usage: Mapping[str, Any] | None) -> bytes:
        """Give the whole answer."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return _JSON.encode({**self._fields, "object": "chat.completion", "choices": [choice], "usage": usage})

    def role(self) -> bytes:
        """Give the first chunk."""
        return self._chunk([_choice({"role": "assistant", "content": ""})])

    def piece(self, text: str) -> bytes:
        """Give a chunk of text."""
        return self._chunk([_choice({"content": text})])

    def end(self, usage: Mapping[str, Any] | None, *, apart: bool) -> bytes:
        """Give the last chunks.

        Args:
            apart: Whether the client asked for the usage in a chunk of its own.
        """
        last = [_choice({}, "stop")]
        if not apart:
            return self._chunk(last, usage=usage) + b"data: [DONE]\n\n"
        return self._chunk(last) + self._chunk([], usage=usage) + b"data: [DONE]\n\n"

    def _chunk(self, choices: list[Any], **more: Any) -> bytes:
        return b"data: %b\n\n" % _JSON.encode(
            {**self._fields, "object": "chat.completion.chunk", "choices": choices, **more}
        )


def _choice(delta: Mapping[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": finish_reason}


def progress_comment(progress: Any) -> bytes:
    """Tell how far a job is, in a comment, which every client of OpenAI's passes over."""
    return b": progress %b\n\n" % _JSON.encode(progress)


def usage_of(metrics: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Give OpenAI's `usage` out of an event's `cumulative_metrics`, with the cost beside it."""
    if metrics is None:
        return None
    usage: dict[str, Any] = {
        "prompt_tokens": metrics.get("total_prompt_tokens", 0),
        "completion_tokens": metrics.get("total_completion_tokens", 0),
        "total_tokens": metrics.get("total_tokens", 0),
    }
    if (cost := metrics.get("total_cost")) is not None:
        usage["cost_usd"] = cost
    return usage
