"""What a job's run needs beside its document: fixed when it is ordered, so that nobody changes it in the middle."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from llmgateway.documents.recipe import Extras, Plan, Recipe


class Work(Struct, frozen=True, kw_only=True):
    """Kept with the job as JSON.

    Args:
        recipes: The flavor that runs, then those that go on after failures, in their order.
        at: Which of them runs now.
        plan: For the recipe that runs now.
        tags, allow_new_tags: For the categorization of the result.
    """

    recipes: tuple[Recipe, ...]
    plan: Plan
    at: int = 0
    extras: Extras = Extras()
    tags: tuple[Mapping[str, Any], ...] = ()
    allow_new_tags: bool = False

    @property
    def recipe(self) -> Recipe:
        """The flavor that runs now."""
        return self.recipes[self.at]

    def encoded(self) -> bytes:
        """As it is kept."""
        return msgspec.json.encode(self)


def work_from(kept: bytes) -> Work:
    """Read it back."""
    return msgspec.json.decode(kept, type=Work)
