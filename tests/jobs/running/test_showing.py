"""Which text is final already."""

from typing import Any

import pytest

from llmgateway.documents.question import Question
from llmgateway.jobs.running.showing import Showing, in_same_form
from tests.jobs.scripted import lines_of, plan_of, recipe_of


def showing(**settings: Any) -> Showing:
    recipe = recipe_of(**settings)
    return Showing(recipe, plan_of(lines_of(3), recipe))


def asked(batch: int | None, *, last: bool = False) -> Question:
    return Question(step="s", type="map", messages=(), max_tokens=1, batch=batch, last=last)


def test_batches_are_final_in_the_order_of_the_document() -> None:
    shown = showing()

    assert list(shown.done(asked(1), "two")) == []
    assert shown.start_of(asked(0)) == 0
    assert shown.start_of(asked(2, last=True)) is None
    assert list(shown.done(asked(0), "one")) == [(0, "one"), (3, "\n\ntwo")]
    assert shown.start_of(asked(2, last=True)) == 10
    assert [shown.lead_of(asked(batch)) for batch in (0, 2)] == ["", "\n\n"]
    assert list(shown.done(asked(None), "a repair")) == []


@pytest.mark.parametrize("settings", [{"processing_mode": "map_reduce"}, {"reduce_summary": True}])
def test_only_the_last_answer_is_final_where_all_are_brought_together(settings: dict[str, object]) -> None:
    shown = showing(**settings)

    assert list(shown.done(asked(0), "one")) == []
    assert shown.start_of(asked(0)) is None
    assert shown.start_of(asked(None, last=True)) == 0
    assert list(shown.done(asked(None, last=True), "all")) == [(0, "all")]


@pytest.mark.parametrize("settings", [{"output_type": "json"}, {"consolidate_summary": True}])
def test_nothing_is_final_that_is_still_to_be_changed(settings: dict[str, object]) -> None:
    shown = showing(**settings)

    assert list(shown.done(asked(0), "one")) == []
    assert shown.start_of(asked(0)) is None


def test_another_flavor_goes_on_in_the_form_of_what_is_shown() -> None:
    before = recipe_of("one", output_type="markdown")
    after = in_same_form(
        recipe_of("two", output_type="json", reduce_summary=True, temperature=1.0), before, plan_of("x", before)
    )

    assert (after.flavor_name, after.settings.temperature) == ("two", 1.0)
    assert (after.settings.output_type, after.settings.reduce_summary) == ("markdown", False)
