"""How far a job is, and how long it will take: told after each answer, and never less than before."""

from typing import Literal

from msgspec import structs

from llmgateway.documents.planning import reduces
from llmgateway.documents.question import PassType, Question
from llmgateway.documents.recipe import Plan, Recipe
from llmgateway.storage.jobs.rows import Progress

# Where answers are brought together after the batches: what the batches are of the whole, in percent.
_BATCHES, _ALL = 90.0, 100.0
_ALMOST = 99.0

Phase = Literal["processing", "reducing", "extracting", "categorizing"]
_PHASES: dict[PassType, Phase] = {
    "reduce": "reducing",
    "extraction": "extracting",
    "categorization": "categorizing",
}


class Pacing:
    """Counts what is answered.

    Args:
        width: Questions that are asked side by side at most.
        before: Where the job was when this run, or this flavor, began.
    """

    def __init__(self, recipe: Recipe, plan: Plan, *, width: int, before: Progress) -> None:
        self._plan = plan
        self._tail = reduces(plan.mode, recipe.settings)
        self._width = width if plan.mode == "map_reduce" else 1
        self._progress = before
        self._batches: set[int] = set()
        self._steps: set[str] = set()
        self._turns = 0
        self._tails = 0
        self._calls = 0
        self._waiting = 0
        self._spent_ms = 0.0

    def began(self) -> Progress:
        """Tell of the beginning, or of the place where another worker has stopped."""
        before = self._progress
        is_on = before.current > 0 and before.total_batches == len(self._plan.batches)
        return before if is_on else self._told("initial")

    def asks(self, questions: int) -> None:
        """Hear of a wave."""
        self._waiting = questions

    def answered(self, question: Question, duration_ms: float, *, done: bool) -> Progress:
        """Tell of an answer.

        Args:
            done: It needs no continuation.
        """
        self._calls += 1
        self._spent_ms += duration_ms
        if done:
            self._waiting = max(0, self._waiting - 1)
            self._finish(question)
        return self._told(question.type)

    @property
    def steps_done(self) -> frozenset[str]:
        """Which batches are answered to their end, by their questions' steps."""
        return frozenset(self._steps)

    def _finish(self, question: Question) -> None:
        if question.batch is None:
            self._tails += 1
        elif question.batch not in self._batches:
            self._batches.add(question.batch)
            self._steps.add(question.step)
            if question.batch < len(self._plan.batches):
                self._turns += self._plan.batches[question.batch].turns

    def _told(self, kind: PassType) -> Progress:
        batches = len(self._plan.batches)
        ahead = max(self._waiting, batches - len(self._batches) + (1 if self._tail and not self._tails else 0))
        self._progress = Progress(
            current=self._calls,
            total=max(self._calls + ahead, batches),
            percentage=max(self._progress.percentage, self._percentage()),
            phase=_phase(kind),
            current_batch=len(self._batches),
            total_batches=batches,
            completed_turns=self._turns,
            total_turns=self._plan.turns,
            estimated_seconds_remaining=self._remaining_s(),
        )
        return self._progress

    def _percentage(self) -> float:
        done = len(self._batches) / max(len(self._plan.batches), 1)
        if not self._tail:
            return round(min(done * _ALL, _ALMOST), 1)
        # How many levels a tree will have is not known, so each answer brings it half as near to the end again.
        tail = (_ALMOST - _BATCHES) * (1.0 - 0.5**self._tails) if done >= 1.0 else 0.0
        return round(min(done * _BATCHES + tail, _ALMOST), 1)

    def _remaining_s(self) -> float | None:
        if not self._calls:
            return None
        batches = len(self._plan.batches) - len(self._batches)
        ahead = batches / self._width + (1 if self._tail and not self._tails else 0)
        if not batches and self._tails:
            ahead = self._waiting / self._width
        return round(self._spent_ms / self._calls * ahead / 1e3, 1)


def ended(progress: Progress) -> Progress:
    """Tell of the end."""
    total = max(progress.total, progress.current)
    return structs.replace(progress, current=total, total=total, percentage=_ALL, estimated_seconds_remaining=0.0)


def _phase(kind: PassType) -> Phase:
    return _PHASES.get(kind, "processing")
