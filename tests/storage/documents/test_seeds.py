from datetime import UTC, datetime

from llmgateway.documents.prompts import check
from llmgateway.storage.documents.rows import FlavorRow, PromptRow, ServiceRow
from llmgateway.storage.documents.seeds import seeds

AT = datetime(2026, 11, 21, tzinfo=UTC)
ROWS = seeds(AT)
SERVICES = [row for row in ROWS["service"] if isinstance(row, ServiceRow)]
FLAVORS = [row for row in ROWS["flavor"] if isinstance(row, FlavorRow)]
TEXTS = {row.id: row for row in ROWS["prompt"] if isinstance(row, PromptRow)}


def test_every_service_of_the_contract_is_there() -> None:
    assert {service.route for service in SERVICES} == {
        *("summarize", "meeting-minutes", "executive-summary", "structured-report", "translate", "categorize"),
        *("extract-fields", "speaker-correction", "improve-text"),
    }


def test_ids_are_the_same_each_time_and_nobody_elses() -> None:
    ids = [row.id for rows in ROWS.values() for row in rows]  # type: ignore[attr-defined]  # each has one

    assert ids == [row.id for rows in seeds(datetime.now(UTC)).values() for row in rows]  # type: ignore[attr-defined]
    assert len(set(ids)) == len(ids)


def test_each_service_has_a_flavor_for_both_modes_and_one_default() -> None:
    for service in SERVICES:
        own = [flavor for flavor in FLAVORS if flavor.service_id == service.id]
        assert {flavor.settings.processing_mode for flavor in own} == {"single_pass", "iterative"}
        assert sum(flavor.is_default for flavor in own) == 1
        assert {flavor.settings.model for flavor in own} == {"auto"}


def test_every_prompt_is_one_that_the_pipeline_takes() -> None:
    for flavor in FLAVORS:
        settings = flavor.settings
        assert settings.system_prompt is not None
        assert settings.user_prompt is not None
        check(TEXTS[settings.system_prompt].content, "system")
        check(TEXTS[settings.user_prompt].content, settings.processing_mode)
        if settings.reduce_prompt is not None:
            check(TEXTS[settings.reduce_prompt].content, "reduce")
        assert settings.reduce_prompt is not None or not settings.reduce_summary


def test_names_are_unique_where_the_database_wants_it() -> None:
    for kind in ("service", "flavor", "prompt", "preset", "service_template"):
        names = [row.unique_name for row in ROWS[kind]]  # type: ignore[attr-defined]
        assert len(set(names)) == len(names)
