"""What a model must be able to do for a chat request, read from the request's own fields; odd ones need nothing."""

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

NO_NEEDS: frozenset[str] = frozenset()
NOT_GIVEN = Raw()

# Where a request says that it needs something, for the error that names the field.
NEEDED_BY = {
    "vision": "messages",
    "audio": "messages",
    "pdf": "messages",
    "tools": "tools",
    "json_schema": "response_format",
    "reasoning": "reasoning_effort",
    "audio_output": "modalities",
    "streaming": "stream",
}
_OF_PART = {
    "image_url": "vision",
    "video_url": "vision",
    "input_audio": "audio",
    "audio_url": "audio",
    "file": "pdf",
}


class _Format(Struct):
    type: Any = None


_FORMAT = msgspec.json.Decoder(_Format)
_TEXT = msgspec.json.Decoder(str)
_LIST = msgspec.json.Decoder(list[Any])
# What is skipped over is not looked at closely, so it may still turn out to be broken.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_START_BYTES = 64

T = TypeVar("T")


def needs_of_parts(types: Iterable[str]) -> frozenset[str]:
    """Give what a message's parts need, by their types."""
    found = [_OF_PART[one] for one in types if one in _OF_PART]
    return frozenset(found) if found else NO_NEEDS


def needs_of_fields(tools: Raw, functions: Raw, response_format: Raw, effort: Raw, modalities: Raw) -> frozenset[str]:
    """Give what these fields need, each as it came; one that was not sent is `NOT_GIVEN`."""
    found = []
    if _is_filled(tools) or _is_filled(functions):
        found.append("tools")
    if _is_schema(response_format):
        found.append("json_schema")
    if _asks_to_reason(effort):
        found.append("reasoning")
    if _wants_audio(modalities):
        found.append("audio_output")
    return frozenset(found) if found else NO_NEEDS


def _is_filled(tools: Raw) -> bool:
    """Whether it is a list with something in it; the schemas of tools are long, so only its start is looked at."""
    start = bytes(memoryview(tools)[:_START_BYTES])
    return start[:1] == b"[" and start[1:].lstrip()[:1] != b"]"


def _is_schema(response_format: Raw) -> bool:
    found = _read(_FORMAT, response_format)
    return found is not None and found.type == "json_schema"


def _asks_to_reason(effort: Raw) -> bool:
    """Whether any effort is asked for; `minimal` is one, and only models that reason know the word."""
    return _read(_TEXT, effort) not in {None, "", "none"}


def _wants_audio(modalities: Raw) -> bool:
    return "audio" in (_read(_LIST, modalities) or ())


def _read(decoder: msgspec.json.Decoder[T], raw: Raw) -> T | None:
    """Read a field; `None` where it was not sent or is something else."""
    if not raw:
        return None
    try:
        return decoder.decode(raw)
    except _UNREADABLE:
        return None
