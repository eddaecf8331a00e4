"""The instructions within a request, for telling what kind of task it is: nothing here is kept or sent anywhere."""

from typing import Any

import msgspec
from msgspec import Raw, Struct

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Question(Struct, frozen=True):
    """What a request asks.

    Args:
        instructions: What the first system or developer message says.
        asked: What the last message of the user says, or the prompt.
        task_type: `metadata.task_type` as it came; `None` when it did not.
    """

    instructions: str = ""
    asked: str = ""
    task_type: object = None


class _Part(Struct):
    text: Any = None


class _Message(Struct):
    role: Any = None
    content: Raw = Raw()


class _Request(Struct):
    messages: tuple[_Message, ...] = ()
    prompt: Any = None
    metadata: Any = None


_REQUEST = msgspec.json.Decoder(_Request)
_CONTENT = msgspec.json.Decoder(str | list[_Part] | None)


def question_of(body: bytes) -> Question:
    """Give what a request asks; nothing of one that cannot be read."""
    try:
        request = _REQUEST.decode(body)
    except _UNREADABLE:
        return Question()
    metadata = request.metadata
    system = next((one for one in request.messages if one.role in ("system", "developer")), None)
    user = next((one for one in reversed(request.messages) if one.role == "user"), None)
    return Question(
        instructions="" if system is None else _text(system.content),
        asked=_first(request.prompt) if user is None else _text(user.content),
        task_type=metadata.get("task_type") if isinstance(metadata, dict) else None,
    )


def _text(content: Raw) -> str:
    try:
        found = _CONTENT.decode(content) if content else None
    except _UNREADABLE:
        return ""
    if isinstance(found, str):
        return found
    return "\n".join(part.text for part in found or () if isinstance(part.text, str))


def _first(prompt: object) -> str:
    if isinstance(prompt, list) and prompt:
        prompt = prompt[0]
    return prompt if isinstance(prompt, str) else ""
