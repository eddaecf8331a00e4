"""Questions side by side: how many, what a failure does to the others, and what is waited for."""

import asyncio

import pytest
from msgspec import structs

from llmgateway.errors import RateLimitedError, UpstreamError
from llmgateway.exchange import Event
from llmgateway.jobs.running.means import Times
from llmgateway.jobs.running.waves import UNPRICED
from tests.jobs.rig import Rig, until
from tests.jobs.scripted import Answered, Asked, Says, job_of, lines_of, recipe_of


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmgateway.jobs.running.failing._LEAST_S", 0.001)


@pytest.mark.parametrize(("most", "at_once"), [(None, 8), (3, 3), (12, 12)])
async def test_so_many_are_asked_at_once_as_the_flavor_says_else_eight(most: int | None, at_once: int) -> None:
    gate = asyncio.Event()
    rig = Rig(Says(after=gate.wait))
    kept = rig.jobs.submit(job_of(lines_of(30), recipe_of(processing_mode="map_reduce", max_concurrent_requests=most)))
    async with rig.running():
        await until(lambda: rig.model.in_flight == at_once)
        await asyncio.sleep(0)
        assert len(rig.model.calls) == at_once
        gate.set()

    assert kept.row.status == "completed"
    assert rig.model.most_in_flight == at_once


async def test_after_a_failure_nothing_more_is_asked_and_what_is_in_flight_is_kept() -> None:
    gate = asyncio.Event()

    async def down() -> None:
        await until(lambda: rig.model.in_flight == 8)
        raise UpstreamError("down")

    rig = Rig(lambda asked: Says(after=down if asked.prompt == "line 3\n" else gate.wait))
    kept = rig.jobs.submit(job_of(lines_of(30), recipe_of(processing_mode="map_reduce")))
    async with rig.running():
        await until(lambda: len(rig.model.records) == 1)
        gate.set()

    assert kept.row.status == "failed"
    assert len(rig.model.calls) == 8
    assert len(kept.passes) == 7


async def test_whoever_waits_to_ask_does_not_hold_up_a_failure() -> None:
    def script(asked: Asked) -> Answered:
        if asked.prompt == "line 2\n":
            return UpstreamError("down")
        return RateLimitedError("full", retry_after_s=300)

    rig = Rig(script)
    async with asyncio.timeout(5):
        kept = await rig.run(job_of(lines_of(2), recipe_of(processing_mode="map_reduce")))

    assert kept.row.fault is not None
    assert kept.row.fault.code == "provider_unavailable"


@pytest.mark.usefixtures("hasty")
async def test_a_limit_of_this_gateway_is_waited_for_and_told() -> None:
    def script(asked: Asked) -> Answered:
        if len(rig.model.calls) < 3:
            return RateLimitedError("full", retry_after_s=0.002)
        return Says(asked.prompt)

    rig = Rig(script)
    kept = await rig.run(job_of("text"))

    assert kept.row.result == "text"
    told = [event["retry_info"] for event in kept.told("retry")]
    assert [one["attempt"] for one in told] == [1, 2]
    assert [one["error_type"] for one in told] == ["rate_limit_exceeded"] * 2
    assert [record.status for record in rig.model.records] == [429, 429, 200]


@pytest.mark.usefixtures("hasty")
async def test_a_limit_that_lasts_longer_than_patience_ends_the_job() -> None:
    rig = Rig(RateLimitedError("full", retry_after_s=10), times=Times(patience_s=9))
    kept = await rig.run(job_of("text"))

    assert kept.row.fault is not None
    assert kept.row.fault.code == "rate_limit_exceeded"
    assert len(rig.model.calls) == 1


async def test_what_the_gateway_tries_for_a_call_is_told_while_it_does() -> None:
    async def seen() -> None:
        rig.model.calls[0].exchange.note(Event("retry", 0.0, {"cause": "provider_timeout", "delay_s": 1.0}))
        rig.model.calls[0].exchange.note(Event("cache_hit", 0.0, {}))
        await until(lambda: len(kept.told("retry")) == 1)

    rig = Rig(Says(after=seen), most_tries=7)
    kept = rig.jobs.submit(job_of("text"))
    assert await rig.runner.run_next()

    assert kept.told("retry")[0]["retry_info"]["max_attempts"] == 7


async def test_a_most_that_cannot_be_kept_to_is_told() -> None:
    rig = Rig(Says("Done."))
    kept = await rig.run(job_of("text", structs.replace(recipe_of(max_cost_usd=0.001), input_usd=None)))

    assert kept.row.warnings == (UNPRICED.format("model-of-fast"),)
    assert kept.row.status == "completed"


async def test_calls_in_flight_count_against_the_most_until_they_cost_less() -> None:
    rig = Rig(Says("Done."))
    # Room for one call at its dearest, and for twenty as they are.
    kept = await rig.run(job_of(lines_of(10), recipe_of(processing_mode="map_reduce", max_cost_usd=0.004)))

    assert kept.row.status == "completed"
    assert rig.model.most_in_flight == 1


async def test_text_that_is_shown_stays_as_it_is_whoever_says_the_rest() -> None:
    """The beginning of a batch may be shown of which another flavor then makes one of several."""
    rig = Rig(lambda asked: Says("three." if asked.said else f"<{asked.prompt.strip()}>"))
    kept = rig.jobs.submit(job_of(lines_of(2)))
    kept.row = structs.replace(kept.row, partial="\n One, \ntwo, ")
    assert await rig.runner.run_next()

    assert kept.row.result == kept.row.partial == "\n One, \ntwo, three.\n\n<line 2>"
    assert rig.model.calls[0].said == "\n One, \ntwo, "
