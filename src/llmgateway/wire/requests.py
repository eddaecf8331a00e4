"""What the gateway itself reads of a request. Every other field passes by unread, for the upstream to judge."""

import os
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct
from typing_extensions import override

from llmgateway.wire.codec import check_text, decode
from llmgateway.wire.needs import NO_NEEDS, NOT_GIVEN, needs_of_fields, needs_of_parts

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
Name = Annotated[str, Meta(min_length=1, max_length=512)]

# Above this, one text in a chat is left out when the chat is read.
_LARGE_BYTES = 256 * 1024
# So much of a text is looked for; all of it is compared where that is found.
_START_BYTES = 256


class StreamOptions(Struct):
    """OpenAI's `stream_options`."""

    include_usage: bool | None = None


class Asked(Struct, kw_only=True):
    """The fields that every operation shares."""

    model: Name
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    # For the books and the limits: what is odd about these is the upstream's to say.
    user: Any = None
    max_completion_tokens: Any = None
    max_tokens: Any = None
    n: Any = None
    best_of: Any = None

    def questions(self) -> int:
        """How many questions it asks at once, each of which is answered."""
        return 1

    def needs(self) -> frozenset[str]:
        """The capabilities without which a model cannot answer it; that it streams is not among them."""
        return NO_NEEDS

    def has_answers(self) -> bool:
        """Whether there is something among what it asks that a model said."""
        return False


class Part(Struct):
    """One part of a message's content: text, image, audio, file …, told apart by the upstream."""

    type: str


class Message(Struct):
    """One message of a chat."""

    role: Role
    content: str | list[Part] | None = None


class ChatRequest(Asked, kw_only=True):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Meta(min_length=1)]
    # Only looked at for what the model must be able to do: what is odd about these is the upstream's to say.
    tools: Raw = NOT_GIVEN
    functions: Raw = NOT_GIVEN
    response_format: Raw = NOT_GIVEN
    reasoning_effort: Raw = NOT_GIVEN
    modalities: Raw = NOT_GIVEN

    @override
    def needs(self) -> frozenset[str]:
        found = NO_NEEDS
        for message in self.messages:
            if message.content.__class__ is list:
                found |= needs_of_parts({part.type for part in message.content})
        if (
            self.tools is NOT_GIVEN
            and self.response_format is NOT_GIVEN
            and self.reasoning_effort is NOT_GIVEN
            and self.functions is NOT_GIVEN
            and self.modalities is NOT_GIVEN
        ):
            return found
        return found | needs_of_fields(
            self.tools, self.functions, self.response_format, self.reasoning_effort, self.modalities
        )

    @override
    def has_answers(self) -> bool:
        # A loop, for `any` would make a generator for each call.
        for message in self.messages:  # noqa: SIM110
            if message.role == "assistant":
                return True
        return False


class CompletionRequest(Asked, kw_only=True):
    """`POST /v1/completions`: a text, several, or the same as token ids."""

    prompt: str | list[str | int | list[int]]

    @override
    def questions(self) -> int:
        return 1 if isinstance(self.prompt, str) else max(1, sum(not isinstance(one, int) for one in self.prompt))


class EmbeddingRequest(Asked, kw_only=True):
    """`POST /v1/embeddings`."""

    input: Annotated[str, Meta(min_length=1)] | Annotated[list[str | int | list[int]], Meta(min_length=1)]


class _Said(Struct):
    content: Raw = NOT_GIVEN


class _Conversation(Struct):
    messages: list[_Said]


_CHAT = msgspec.json.Decoder(ChatRequest)
_CONVERSATION = msgspec.json.Decoder(_Conversation)
_COMPLETION = msgspec.json.Decoder(CompletionRequest)
_EMBEDDING = msgspec.json.Decoder(EmbeddingRequest)


def read_chat(body: bytes) -> Asked:
    """Check a chat request. Raises: InvalidJSONError, InvalidRequestError."""
    found = _read_around_text(body) if len(body) > _LARGE_BYTES else None
    return decode(_CHAT, body) if found is None else found


def read_completion(body: bytes) -> Asked:
    """Check a legacy completion request. Raises: InvalidJSONError, InvalidRequestError."""
    return decode(_COMPLETION, body)


def read_embedding(body: bytes) -> Asked:
    """Check an embedding request. Raises: InvalidJSONError, InvalidRequestError."""
    return decode(_EMBEDDING, body)


def _read_around_text(body: bytes) -> Asked | None:
    """Read a chat most of which is one text without making a string of that, with another text in its place.

    Ten megabytes that are not all ASCII take 15 ms to become a string, and nobody else gets on meanwhile.

    Returns:
        `None` for a chat that is made otherwise, or wrong: then it is to be read whole, which also tells where.

    Raises:
        InvalidJSONError: It is not UTF-8.
    """
    if not body.isascii():
        check_text(body)
    try:
        said = _CONVERSATION.decode(body).messages
        text = max((message.content for message in said), key=len, default=NOT_GIVEN)
        start = bytes(memoryview(text)[:_START_BYTES])
        at = body.find(start)
        if len(text) < len(body) // 2 or start[:1] != b'"' or not body.startswith(text, at):
            return None
        mark = os.urandom(16).hex()
        asked = _CHAT.decode(b'%b"%b"%b' % (body[:at], mark.encode(), body[at + len(text) :]))
    except (msgspec.DecodeError, RecursionError):
        return None
    # Nobody can guess the mark: it is where the text was, which was checked as JSON.
    return asked if any(message.content == mark for message in asked.messages) else None
