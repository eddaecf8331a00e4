"""Which text is the end of it already: where nothing follows but more of it, it is shown as soon as it is there."""

from collections.abc import Iterator

from msgspec import structs

from llmgateway.documents.pipeline import SEPARATOR, final_after
from llmgateway.documents.question import Question
from llmgateway.documents.recipe import Plan, Recipe


class Showing:
    """Puts the batches' texts in the order of the document, and says where in the result each begins."""

    def __init__(self, recipe: Recipe, plan: Plan) -> None:
        self._batches = final_after(plan, recipe)
        self._ready: dict[int, str] = {}
        self._next = 0
        self._chars = 0

    def start_of(self, question: Question) -> int | None:
        """Give the place in the result at which a question's text will begin; `None` while that is not known."""
        if not self._batches:
            return 0 if question.last else None
        if question.batch is None or question.batch != self._next:
            return None
        return self._chars + (len(SEPARATOR) if self._next else 0)

    def lead_of(self, question: Question) -> str:
        """Give what stands in the result right before a question's text."""
        return SEPARATOR if self._batches and question.batch else ""

    def done(self, question: Question, text: str) -> Iterator[tuple[int, str]]:
        """Take a whole text; gives the places and texts that are final from now on."""
        if not self._batches:
            if question.last:
                yield 0, text
            return
        if question.batch is None:
            return
        self._ready[question.batch] = text
        while self._next in self._ready:
            piece = (SEPARATOR if self._next else "") + self._ready.pop(self._next)
            yield self._chars, piece
            self._chars += len(piece)
            self._next += 1


def in_same_form(recipe: Recipe, before: Recipe, plan: Plan) -> Recipe:
    """Let a flavor go on in the form of the one before it: what is shown is the beginning of the result, for good."""
    kept = before.settings
    settings = structs.replace(
        recipe.settings,
        processing_mode=plan.mode,
        reduce_summary=kept.reduce_summary,
        consolidate_summary=kept.consolidate_summary,
        output_type=kept.output_type,
        output_schema=kept.output_schema,
    )
    return structs.replace(recipe, settings=settings)
