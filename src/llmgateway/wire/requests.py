"""What the gateway itself reads of a request. Every other field passes by unread, for the upstream to judge."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct
from typing_extensions import override

from llmgateway.wire.codec import decode
from llmgateway.wire.needs import NO_NEEDS, NOT_GIVEN, needs_of_fields, needs_of_parts

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
Name = Annotated[str, Meta(min_length=1, max_length=512)]


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


_CHAT = msgspec.json.Decoder(ChatRequest)
_COMPLETION = msgspec.json.Decoder(CompletionRequest)
_EMBEDDING = msgspec.json.Decoder(EmbeddingRequest)


def read_chat(body: bytes) -> Asked:
    """Check a chat request. Raises: InvalidJSONError, InvalidRequestError."""
    return decode(_CHAT, body)


def read_completion(body: bytes) -> Asked:
    """Check a legacy completion request. Raises: InvalidJSONError, InvalidRequestError."""
    return decode(_COMPLETION, body)


def read_embedding(body: bytes) -> Asked:
    """Check an embedding request. Raises: InvalidJSONError, InvalidRequestError."""
    return decode(_EMBEDDING, body)
