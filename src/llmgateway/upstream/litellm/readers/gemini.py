"""Gemini's answers: text alone, and its usage, is read here; tool calls, thoughts and all else by LiteLLM.

Gemini API: GenerateContentResponse, UsageMetadata.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from llmgateway.upstream.litellm.pieces import Piece, pieces_of, usage_fields
from llmgateway.upstream.litellm.translation import Config, Event, Plain, Silent


class _Strict(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """Holds nothing but what is read here: with anything else in it, an answer is LiteLLM's to read."""


class _Part(_Strict):
    text: str


class _Content(_Strict):
    parts: list[_Part]
    role: str = "model"


class _Candidate(_Strict):
    content: _Content
    index: Literal[0] = 0


class _Count(_Strict):
    modality: Literal["TEXT"]
    token_count: int


class _Usage(_Strict):
    prompt_token_count: int = 0
    candidates_token_count: int = 0
    total_token_count: int = 0
    thoughts_token_count: int = 0
    cached_content_token_count: int | None = None
    prompt_tokens_details: list[_Count] | None = None
    candidates_tokens_details: list[_Count] | None = None


class _TextEvent(_Strict):
    candidates: list[_Candidate]
    usage_metadata: msgspec.Raw = msgspec.Raw()
    model_version: str | None = None
    response_id: str | None = None
    create_time: str | None = None


class _WholeCandidate(_Strict):
    content: _Content
    # Of an answer that was stopped for what it says LiteLLM leaves out the text.
    finish_reason: Literal["STOP", "MAX_TOKENS"]
    index: Literal[0] = 0
    avg_logprobs: float | None = None


class _WholeAnswer(_Strict):
    candidates: list[_WholeCandidate]
    usage_metadata: msgspec.Raw
    model_version: str
    response_id: str | None = None
    create_time: str | None = None


# A whole answer is charged by what this header says, which LiteLLM reads.
_TIER = "x-gemini-service-tier"
_read_whole = msgspec.json.Decoder(_WholeAnswer).decode
_read_text = msgspec.json.Decoder(_TextEvent).decode
_read_usage = msgspec.json.Decoder(_Usage).decode


class GeminiReader:
    """Reads the answer to one request.

    Args:
        iterator: Makes LiteLLM's reader of events.
        count: LiteLLM's reader of an event's usage.
        stop: From Google's reasons to stop to OpenAI's.
    """

    __slots__ = ("_asked", "_config", "_count", "_iterator", "_make", "_parameters", "_stop")

    def __init__(
        self,
        config: Config,
        messages: list[dict[str, Any]],
        parameters: dict[str, Any],
        iterator: Callable[[Silent], Any],
        *,
        count: Callable[[dict[str, Any]], Any],
        stop: Callable[[str], str],
    ) -> None:
        self._config = config
        self._asked = {"messages": messages, "optional_params": parameters, "litellm_params": {}, "request_data": {}}
        self._parameters = parameters
        self._make = iterator
        self._iterator: Any = None
        self._count = count
        self._stop = stop

    def answer(self, body: bytes, headers: Mapping[str, str]) -> list[Piece]:
        piece = None if _TIER in headers else self._whole(body)
        if piece is not None:
            return [piece]
        return self._config.answer(body, headers, logging_obj=Silent(self._parameters), **self._asked)

    def plain(self, content: bytes) -> Plain | None:
        # The first event is the one whose model counts.
        if self._iterator is None or b'"finishReason"' in content:
            return None
        try:
            event = _read_text(content)
        except msgspec.DecodeError:
            return None
        text = _text_of(event.candidates)
        if text is None:
            return None
        return text, self._usage(event.usage_metadata) if len(event.usage_metadata) else None

    def event(self, event: Event) -> list[Piece]:
        if self._iterator is None:
            self._iterator = self._make(Silent(self._parameters))
        stopped = gemini_stopped(event)
        pieces = pieces_of(self._iterator.chunk_parser(event))
        for piece in pieces if not stopped else ():
            piece.finish = None  # LiteLLM's reader says `stop` where Google says nothing
        return pieces

    def _whole(self, body: bytes) -> Piece | None:
        try:
            answer = _read_whole(body)
        except msgspec.DecodeError:
            return None
        text = _text_of(answer.candidates)
        if text is None:
            return None
        stop, model = self._stop(answer.candidates[0].finish_reason), answer.model_version.split("@", 1)[0]
        return Piece(content=text, finish=stop, usage=self._usage(answer.usage_metadata), model=model or None)

    def _usage(self, told: msgspec.Raw) -> dict[str, Any] | None:
        try:
            return gemini_usage(_read_usage(told))
        except msgspec.ValidationError:
            return usage_fields(self._count({"usageMetadata": msgspec.json.decode(told)}))


def _text_of(candidates: Sequence[_Candidate | _WholeCandidate]) -> str | None:
    if len(candidates) != 1:
        return None
    text = "".join([part.text for part in candidates[0].content.parts])
    # Audio may come as such a text.
    return text if text and "data:" not in text else None


def gemini_usage(told: _Usage) -> dict[str, Any]:
    """Give counts of text alone in OpenAI's shape; thoughts are part of the completion, though not always told so."""
    prompt, said, thought = told.prompt_token_count, told.candidates_token_count, told.thoughts_token_count
    completion = said if prompt + said == told.total_token_count else said + thought
    fields: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": told.total_token_count or prompt + completion,
    }
    if told.cached_content_token_count is not None:
        fields["prompt_tokens_details"] = {"cached_tokens": told.cached_content_token_count}
    if thought:
        fields["completion_tokens_details"] = {"reasoning_tokens": thought}
    return fields


def gemini_stopped(event: Event) -> bool:
    """Tell the event that says why the answer ends, or why there is none."""
    ended = any(candidate.get("finishReason") for candidate in event.get("candidates") or ())
    return ended or "blockReason" in (event.get("promptFeedback") or {})
