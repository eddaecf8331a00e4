"""Whether an answer is one, how one that was cut off goes on, and how its parts are put together."""

import re
from collections.abc import Sequence

import msgspec

from llmgateway.documents.question import Answer, AnswerError, Question

MOST_FOLLOW_UPS = 8

# A model that goes on often says its last words again. Longer ones are not looked for, shorter ones may be meant.
_LONGEST_REPEATED, _CERTAIN_BYTES = 400, 16
# Room for an answer is kept once: a question that goes on with it shows its end and asks for the rest of that room.
_ASKED_SHARE = 5 / 8
_GO_ON = (
    "Your answer was cut off there. Go on with the very next character, as if you had never stopped: repeat nothing of"
    " it, and add no remark. If it was complete, answer with nothing."
)
_BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")


def follow_up(question: Question, answers: Sequence[Answer]) -> Question | None:
    """Give what must be asked after these answers to a question (its own, then of its follow-ups), if anything.

    An answer that was cut at its longest is gone on with.

    Raises:
        AnswerError: A refusal, nothing at all, or no end.
    """
    last = answers[-1]
    if last.refusal or last.finish_reason == "content_filter":
        raise AnswerError("content_filter", "refused", "The model, or its provider's filter, refused to answer.")
    is_cut = last.finish_reason == "length"
    if not last.text.strip() and (is_cut or len(answers) == 1):
        why = " The longest answer it may give was used up before." if is_cut else ""
        raise AnswerError("model_error", "empty_answer", f"The model answered with nothing.{why}")
    if not is_cut:
        return None
    if len(answers) > MOST_FOLLOW_UPS:
        raise AnswerError(
            "model_error",
            "answer_too_long",
            f"The model's answer had no end after {len(answers)} calls of up to {question.max_tokens} tokens:"
            " use smaller batches (`max_new_turns`), or a model that writes longer answers.",
        )
    return resumed(question, _joined(answers), len(answers))


def whole(question: Question, answers: Sequence[Answer]) -> str:
    """Put the text together that a question and its follow-ups were answered with.

    What was shown as it came stays as it came; other answers lose blank lines around them.
    """
    text = _joined(answers)
    return text if question.last else _BLANK_LINES.sub("", text).rstrip()


def resumed(question: Question, said: str, part: int) -> Question:
    """Ask for the rest of an answer of which this much is written down already.

    Args:
        part: Counts the follow-ups of the question, from 1.
    """
    step = f"{question.step}+{part}"
    if not said.strip():
        return msgspec.structs.replace(question, step=step)
    so_far = {"role": "assistant", "content": _end_of(said, question.max_tokens)}
    return msgspec.structs.replace(
        question,
        step=step,
        type="continuation",
        messages=(*question.messages, so_far, {"role": "user", "content": _GO_ON}),
        max_tokens=max(1, int(question.max_tokens * _ASKED_SHARE)),
        # A form would make the model begin anew.
        schema=None,
    )


class Joint:
    """Takes the rest of an answer piece by piece, and gives it on without what it repeats of the answer so far.

    All that it gives is together what `whole` has after the answer so far.
    """

    def __init__(self, said: str) -> None:
        self._said = said
        self._held: str | None = ""

    def feed(self, piece: str) -> str:
        """Take a piece; give what is certain to belong to the answer."""
        if self._held is None:
            return piece
        self._held += piece
        end = self._said[-_LONGEST_REPEATED:-1]
        if len(self._held) < _LONGEST_REPEATED and self._held in end:
            return ""
        return self.end()

    def end(self) -> str:
        """Give what was held back."""
        held, self._held = self._held or "", None
        return held[_repeated_chars(self._said, held) :]


def _joined(answers: Sequence[Answer]) -> str:
    text = ""
    for answer in answers:
        text += answer.text[_repeated_chars(text, answer.text) :]
    return text


def _repeated_chars(said: str, more: str) -> int:
    """Count the characters at the beginning that were the end before: long enough, and said no other time."""
    longest = min(len(said), len(more), _LONGEST_REPEATED)
    chars = next((chars for chars in range(longest, 0, -1) if said.endswith(more[:chars])), 0)
    repeated = more[:chars]
    is_certain = len(repeated.encode(errors="replace")) >= _CERTAIN_BYTES and said.count(repeated) == 1
    return chars if is_certain else 0


def _end_of(said: str, most_bytes: int) -> str:
    # A token has three bytes or more in nearly all texts: this is a third of the room for the answer at most.
    return said.encode(errors="replace")[-most_bytes:].decode(errors="ignore")
