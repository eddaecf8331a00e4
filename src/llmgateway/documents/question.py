"""What a pipeline asks of a model, and what it takes for an answer."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct

PassType = Literal["initial", "continuation", "map", "reduce", "single_pass", "extraction", "categorization"]
Failure = Literal["timeout", "rate_limit", "model_error", "content_filter"]


class Question(Struct, frozen=True, kw_only=True):
    """One call of a model.

    Args:
        step: Names it within the job, and again after the worker was killed: the same inputs give the same name.
        messages: In OpenAI's form; the contents are texts.
        max_tokens: The longest answer that fits.
        batch: Which batch of the plan it is about; `None` is none.
        last: Whether its answer is the end of the job's result, as it comes: it may be shown piece by piece.
        schema: What a JSON answer must be, where the settings say so; an empty one is any JSON object.
    """

    step: str
    type: PassType
    messages: tuple[Mapping[str, Any], ...]
    max_tokens: int
    batch: int | None = None
    last: bool = False
    schema: Mapping[str, Any] | None = None


class Answer(Struct, frozen=True, kw_only=True):
    """What came back.

    Args:
        finish_reason: As OpenAI names it: `stop`, `length`, `content_filter`.
        refusal: Why the model does not answer, where it says so in a field of its own.
    """

    text: str
    finish_reason: str = "stop"
    refusal: str | None = None


class AnswerError(Exception):
    """An answer that is none: another flavor may give one.

    Args:
        kind: By which `failover_on` decides.
        message: For the reader of the job's error; without the answer's text.
        code: Of the job's error: `empty_answer`, `refused`, `invalid_output`, `answer_too_long`.
    """

    def __init__(self, kind: Failure, code: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code
        self.message = message
