"""One job from its claim to its end: events, resuming, failover, and every way to fail."""

import asyncio
import json

import pytest
from msgspec import structs

from llmgateway.caller import ANYONE, Caller
from llmgateway.errors import (
    AuthenticationError,
    BudgetSpentError,
    GatewayError,
    KeysAwayError,
    ProviderTimeoutError,
    UpstreamError,
    UpstreamRateLimitedError,
)
from llmgateway.flavor import FailoverOn
from llmgateway.jobs.running.waves import DEMO
from llmgateway.jobs.work import work_from
from llmgateway.storage.jobs.rows import Origin
from llmgateway.telemetry.traces.jobs import trace_id_of
from tests.jobs.rig import Rig, until
from tests.jobs.scripted import Asked, Says, job_of, lines_of, recipe_of, tokens_of


def echoed(asked: Asked) -> Says:
    return Says(f"<{asked.prompt.strip()}>")


class Cut:
    """Answers until a call that waits for ever: there the worker is killed."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.calls = 0
        self.stuck = asyncio.Event()

    def __call__(self, asked: Asked) -> Says:
        self.calls += 1
        return Says(f"<{asked.prompt.strip()}>", after=self.forever if self.calls == self.at else None)

    async def forever(self) -> None:
        self.stuck.set()
        await asyncio.Event().wait()


async def test_an_iterative_job_shows_each_batch_and_ends_with_all_of_them() -> None:
    rig = Rig(echoed)

    kept = await rig.run(job_of(lines_of(3)))

    assert kept.row.status == "completed"
    assert kept.row.result == kept.shown == kept.row.partial == "<line 1>\n\n<line 2>\n\n<line 3>"
    assert [row.step for row in kept.passes] == ["batch:0-7", "batch:7-14", "batch:14-21"]
    assert [row.number for row in kept.passes] == [1, 2, 3]
    assert kept.row.totals.passes == 3
    assert [line.status for line in rig.model.records] == [200, 200, 200]
    assert [job.status for job in rig.told.ends] == ["completed"]


async def test_its_events_begin_with_its_state_and_end_with_its_result_alone() -> None:
    rig = Rig(echoed)

    kept = await rig.run(job_of(lines_of(2)))

    assert kept.events[0]["event_type"] == "status_change"
    assert len(kept.commits[-1].events) == 1
    assert kept.events[-1]["event_type"] == "complete"
    assert kept.events[-1]["result"] == kept.row.result
    assert all(event["status"] == "processing" for event in kept.events[:-1])
    percentages = [event["progress"].percentage for event in kept.events]
    assert percentages == sorted(percentages)
    assert percentages[-1] == 100.0
    figures = [event["current_pass_metrics"] for event in kept.told("progress")]
    assert [one["pass_number"] for one in figures] == [1, 2]
    assert figures[0]["cost"] > 0


async def test_a_single_pass_streams_its_answer() -> None:
    pieces = [f"word {number} " for number in range(20)]

    async def slowly(index: int) -> None:
        await until(lambda: len(rig.jobs.kept[new.id].shown) >= len("".join(pieces[: max(0, index - 3)])))

    rig = Rig(Says(pieces=pieces, pause=slowly))
    new = job_of("a text", recipe_of(processing_mode="single_pass"))
    kept = await rig.run(new)

    assert rig.model.calls[0].body["stream"] is True
    assert kept.row.result == kept.shown == "".join(pieces)
    assert len(kept.told("output")) >= 3
    assert [row.type for row in kept.passes] == ["single_pass"]


async def test_map_answers_come_in_any_order_and_are_reduced_in_the_documents() -> None:
    ready = {number: asyncio.Event() for number in range(1, 5)}

    def script(asked: Asked) -> Says:
        if asked.prompt.startswith("REDUCE"):
            return Says(asked.prompt.removeprefix("REDUCE "))
        number = int(asked.prompt.split()[1])
        if number == 4:
            for event in ready.values():
                event.set()
        return Says(f"<{number}>", after=None if number == 4 else ready[number].wait)

    rig = Rig(script)
    kept = await rig.run(job_of(lines_of(4), recipe_of(processing_mode="map_reduce")))

    assert kept.row.result == kept.shown == "<1>\n\n<2>\n\n<3>\n\n<4>"
    assert kept.passes[0].step == "batch:21-28"
    assert [row.type for row in kept.passes] == ["map"] * 4 + ["reduce"]
    assert kept.events[-2]["progress"].phase == "reducing"
    assert rig.model.most_in_flight == 4


async def test_pitfall_114_an_answer_cut_at_its_longest_is_gone_on_with() -> None:
    def script(asked: Asked) -> Says:
        if "line 2" not in asked.prompt:
            return echoed(asked)
        return Says(", and its end.") if asked.said else Says("The beginning", finish_reason="length")

    rig = Rig(script)
    kept = await rig.run(job_of(lines_of(3)))

    assert kept.row.result == "<line 1>\n\nThe beginning, and its end.\n\n<line 3>"
    assert [row.step for row in kept.passes] == ["batch:0-7", "batch:7-14", "batch:7-14+1", "batch:14-21"]


async def test_pitfall_114_a_stream_cut_at_its_longest_is_shown_without_what_it_says_twice() -> None:
    def script(asked: Asked) -> Says:
        if asked.said is None:
            return Says("It was decided that the gate is painted green", finish_reason="length")
        return Says("the gate is painted green by the end of May.")

    rig = Rig(script)
    kept = await rig.run(job_of("text", recipe_of(processing_mode="single_pass")))

    assert kept.row.result == kept.shown == "It was decided that the gate is painted green by the end of May."


@pytest.mark.parametrize("at", [1, 2, 3])
async def test_a_killed_worker_costs_the_call_in_flight_and_no_other(at: int) -> None:
    script = Cut(at)
    rig = Rig(script)
    kept = rig.jobs.submit(job_of(lines_of(3)))

    async with asyncio.TaskGroup() as group:
        task = group.create_task(rig.runner.run_next())
        await script.stuck.wait()
        task.cancel()
    rig.jobs.lose(kept.row.id)
    assert await rig.runner.run_next()

    assert kept.row.result == kept.shown == "<line 1>\n\n<line 2>\n\n<line 3>"
    assert len(rig.model.calls) == 4
    assert rig.model.ended_early == 1
    assert len(rig.model.records) == 4


async def test_pitfall_103_a_map_that_is_killed_in_the_middle_repeats_only_what_was_in_flight() -> None:
    gate = asyncio.Event()

    def script(asked: Asked) -> Says:
        if asked.prompt.startswith("REDUCE"):
            return Says("All.")
        return Says(asked.prompt.strip(), after=None if len(rig.model.calls) <= 12 else gate.wait)

    rig = Rig(script)
    kept = rig.jobs.submit(job_of(lines_of(20), recipe_of(processing_mode="map_reduce")))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(rig.runner.run_next())
        await until(lambda: len(kept.passes) == 12 and rig.model.in_flight == 8)
        task.cancel()
    rig.jobs.lose(kept.row.id)
    gate.set()
    assert await rig.runner.run_next()

    assert kept.row.status == "completed"
    assert len(rig.model.calls) == 20 + 8 + 1
    assert len(kept.passes) == 21


async def test_a_stream_that_was_killed_goes_on_after_what_was_shown() -> None:
    stuck = asyncio.Event()

    async def at_the_third(index: int) -> None:
        if index == 2:
            await until(lambda: kept.shown == "One, two, ")
            stuck.set()
            await asyncio.Event().wait()

    def script(asked: Asked) -> Says:
        if asked.said is None:
            return Says(pieces=["One, ", "two, ", "three"], pause=at_the_third)
        return Says("three, four.")

    rig = Rig(script)
    kept = rig.jobs.submit(job_of("text", recipe_of(processing_mode="single_pass")))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(rig.runner.run_next())
        await stuck.wait()
        task.cancel()
    rig.jobs.lose(kept.row.id)
    assert await rig.runner.run_next()

    assert rig.model.calls[1].said == "One, two, "
    assert kept.row.result == kept.shown == "One, two, three, four."
    assert kept.passes[0].output == "One, two, three, four."
    assert [record.status for record in rig.model.records] == [499, 200]


async def test_a_resumed_job_begins_with_the_passes_of_the_one_before_and_shows_them() -> None:
    rig = Rig(lambda asked: UpstreamError("down") if "line 3" in asked.prompt else echoed(asked))
    failed = await rig.run(job_of(lines_of(3)))
    assert (failed.row.status, failed.row.result) == ("failed", "<line 1>\n\n<line 2>")
    assert failed.row.fault is not None
    assert failed.row.fault.code == "provider_unavailable"
    assert failed.events[-1]["event_type"] == "error"

    rig.model.script = echoed
    again = await rig.run(job_of(lines_of(3)), tuple(failed.passes))

    assert again.row.result == again.shown == "<line 1>\n\n<line 2>\n\n<line 3>"
    assert len(rig.model.calls) == 4
    assert again.row.totals.passes == 3


async def test_what_breaks_off_while_it_is_shown_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmgateway.jobs.running.failing._LEAST_S", 0.01)

    def script(asked: Asked) -> Says:
        broken = Says(pieces=["One, ", "two"], breaks=UpstreamError("broken", may_retry=True))
        return broken if asked.said is None else Says(", three.")

    rig = Rig(script)
    kept = await rig.run(job_of("text", recipe_of(processing_mode="single_pass")))

    assert kept.row.result == kept.shown == "One, two, three."
    assert [event["retry_info"]["error_type"] for event in kept.told("retry")] == ["provider_unavailable"]
    assert [row.output for row in kept.passes] == ["One, two, three."]


@pytest.mark.parametrize(
    ("error", "on", "code"),
    [
        (ProviderTimeoutError("slow"), {}, None),
        (ProviderTimeoutError("slow"), {"timeout": False}, "provider_timeout"),
        (UpstreamRateLimitedError("busy"), {}, None),
        (UpstreamRateLimitedError("busy"), {"rate_limit": False}, "provider_rate_limited"),
        (UpstreamError("down"), {}, None),
        (UpstreamError("down"), {"model_error": False}, "provider_unavailable"),
        (BudgetSpentError("spent"), {}, "insufficient_quota"),
    ],
)
async def test_another_flavor_goes_on_after_the_failures_that_the_first_one_names(
    error: GatewayError, on: dict[str, bool], code: str | None
) -> None:
    fast, sure = recipe_of("fast", failover_on=FailoverOn(**on)), recipe_of("sure")
    rig = Rig(
        lambda asked: error if asked.call.model == "model-of-fast" and "line 2" in asked.prompt else echoed(asked)
    )

    kept = await rig.run(job_of(lines_of(3), fast, sure))

    assert (kept.row.fault.code if kept.row.fault else None) == code
    if code is None:
        assert kept.row.status == "completed"
        assert kept.row.result is not None
        assert kept.row.result.startswith("<line 1>\n\n")
        assert "line 3" in kept.row.result
        assert kept.row.records.failover_applied
        assert [step.flavor for step in kept.row.records.failover_chain] == ["fast"]
        assert kept.row.records.final_flavor_name == "sure"
        assert work_from(kept.work).at == 1
        assert [event["retry_info"]["error_type"] for event in kept.told("failover")] == [error.code]
        assert [asked.call.model for asked in rig.model.calls][:3] == ["model-of-fast"] * 2 + ["model-of-sure"]


async def test_failover_goes_no_deeper_than_the_flavor_says() -> None:
    recipes = [recipe_of(name, max_failover_depth=1) for name in ("one", "two", "three")]
    rig = Rig(UpstreamError("down"))

    kept = await rig.run(job_of(lines_of(2), *recipes))

    assert kept.row.status == "failed"
    assert [asked.call.model for asked in rig.model.calls] == ["model-of-one", "model-of-two"]


async def test_a_flavor_that_the_document_does_not_fit_into_is_passed_over() -> None:
    one, tiny, three = recipe_of("one"), structs.replace(recipe_of("tiny"), context_length=1010), recipe_of("three")
    rig = Rig(lambda asked: UpstreamError("down") if asked.call.model == "model-of-one" else echoed(asked))

    kept = await rig.run(job_of("text", one, tiny, three))

    assert kept.row.status == "completed"
    assert [asked.call.model for asked in rig.model.calls] == ["model-of-one", "model-of-three"]
    chain = kept.row.records.failover_chain
    assert [step.flavor for step in chain] == ["one", "tiny"]
    assert chain[1].reason.startswith("context_exceeded")
    assert kept.row.records.final_flavor_name == "three"


async def test_a_result_that_is_not_what_was_shown_is_given_all_the_same_and_logged() -> None:
    rig = Rig(Says('{"ok": true}'))
    kept = rig.jobs.submit(job_of("text", recipe_of(output_type="json")))
    kept.row = structs.replace(kept.row, partial="Something else")
    assert await rig.runner.run_next()

    assert kept.row.result == '{"ok": true}'
    assert "result_differs_from_what_was_shown" in rig.lines.events()


async def test_a_worker_killed_after_a_failover_goes_on_with_the_flavor_that_had_taken_over() -> None:
    stuck = asyncio.Event()

    async def forever() -> None:
        stuck.set()
        await asyncio.Event().wait()

    def script(asked: Asked) -> Says | GatewayError:
        if asked.call.model == "model-of-one":
            return UpstreamError("down")
        return Says("Done.", after=None if stuck.is_set() else forever)

    rig = Rig(script)
    kept = rig.jobs.submit(job_of("text", recipe_of("one"), recipe_of("two")))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(rig.runner.run_next())
        await stuck.wait()
        task.cancel()
    rig.jobs.lose(kept.row.id)
    assert await rig.runner.run_next()

    assert [asked.call.model for asked in rig.model.calls] == ["model-of-one", "model-of-two", "model-of-two"]
    assert len(kept.row.records.failover_chain) == 1


async def test_a_refusal_fails_the_job_unless_another_flavor_may_answer_it() -> None:
    def script(asked: Asked) -> Says:
        return Says("", refusal="I will not.") if asked.call.model == "model-of-one" else Says("Done.")

    rig = Rig(script)
    refused = await rig.run(job_of("text", recipe_of("one"), recipe_of("two")))
    answered = await rig.run(
        job_of("text", recipe_of("one", failover_on=FailoverOn(content_filter=True)), recipe_of("two"))
    )

    assert refused.row.fault is not None
    assert refused.row.fault.code == "refused"
    assert (answered.row.status, answered.row.result) == ("completed", "Done.")
    # Both answers are paid for, and the refusal is none that another run would take for one.
    assert [row.step for row in answered.passes] == ["batch:0-4!1", "batch:0-4"]
    assert answered.row.totals.passes == 2


async def test_json_that_is_none_even_after_its_repair_is_asked_of_another_flavor_anew() -> None:
    def script(asked: Asked) -> Says:
        return Says("{broken" if asked.call.model == "model-of-one" else '{"ok": true}')

    rig = Rig(script)
    one, two = (recipe_of(name, output_type="json", processing_mode="single_pass") for name in ("one", "two"))
    kept = await rig.run(job_of("text", one, two))

    assert kept.row.status == "completed"
    assert json.loads(kept.row.result or "") == {"ok": True}
    assert [asked.call.model for asked in rig.model.calls] == ["model-of-one"] * 2 + ["model-of-two"]
    assert kept.passes[-1].step == "batch:0-4@3"


async def test_answers_that_are_none_are_not_taken_over_though_a_flavor_was_passed_over_meanwhile() -> None:
    def script(asked: Asked) -> Says:
        return Says("{broken" if asked.call.model == "model-of-one" else '{"ok": true}')

    rig = Rig(script)
    one, tiny, two = (
        recipe_of(name, output_type="json", processing_mode="single_pass") for name in ("one", "t", "two")
    )
    kept = await rig.run(job_of("text", one, structs.replace(tiny, context_length=1010), two))

    assert kept.row.status == "completed"
    assert [asked.call.model for asked in rig.model.calls] == ["model-of-one"] * 2 + ["model-of-two"]


async def test_whoever_goes_on_answers_in_the_form_of_the_answers_that_are_there() -> None:
    def script(asked: Asked) -> Says | GatewayError:
        if asked.call.model == "model-of-one" and "line 2" in asked.prompt:
            return UpstreamError("down")
        return Says(json.dumps({"lines": [asked.prompt.strip()]}))

    rig = Rig(script)
    kept = await rig.run(job_of(lines_of(2), recipe_of("one", output_type="json"), recipe_of("two")))

    assert json.loads(kept.row.result or "") == {"lines": ["line 1", "line 2"]}


async def test_another_flavor_goes_on_with_the_text_that_is_shown() -> None:
    def script(asked: Asked) -> Says:
        if asked.call.model == "model-of-one":
            return Says(pieces=["One, ", "two, "], breaks=UpstreamError("broken"))
        return Says("three.")

    rig = Rig(script)
    one = recipe_of("one", processing_mode="single_pass")
    two = recipe_of("two", reduce_summary=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmgateway.jobs.running.failing._MOST_BREAKS", 0)
        kept = await rig.run(job_of("text", one, two))

    assert kept.row.result == kept.shown == "One, two, three."
    assert rig.model.calls[-1].said == "One, two, "


async def test_whoever_ordered_it_is_looked_up_anew() -> None:
    mine = Caller(kind="client", key_id="key_1", organization="acme", models=("service/minutes",))
    seen: list[Caller] = []

    async def away_once(caller: Caller) -> Caller:
        seen.append(caller)
        if len(seen) == 1:
            raise KeysAwayError("away")
        return structs.replace(caller, tier="gold")

    rig = Rig(echoed, callers=away_once)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    kept = await rig.run(job_of("text", origin=Origin(caller=mine, trace=trace), organization="acme"))

    exchange = rig.model.calls[0].exchange
    assert kept.row.status == "completed"
    assert seen == [mine, mine]
    assert (exchange.caller.tier, exchange.caller.models, exchange.organization) == ("gold", None, "acme")
    assert exchange.for_job
    assert exchange.client_id == kept.row.id
    assert exchange.trace is not None
    assert f"{exchange.trace.trace_id:032x}" == trace_id_of(kept.row.id)
    assert exchange.trace.sampled


async def test_a_key_that_is_gone_ends_the_job() -> None:
    async def unknown(caller: Caller) -> Caller:  # noqa: ARG001  the seam's name
        raise AuthenticationError("This key is no longer valid.")

    rig = Rig(echoed, callers=unknown)
    kept = await rig.run(job_of("text"))

    assert kept.row.fault is not None
    assert kept.row.fault.code == "invalid_api_key"
    assert rig.model.calls == []


async def test_a_bug_ends_the_job_with_a_reason_and_the_log_has_its_cause() -> None:
    async def strange(caller: Caller) -> Caller:  # noqa: ARG001  the seam's name
        raise ZeroDivisionError

    rig = Rig(echoed, callers=strange)
    kept = await rig.run(job_of("text"))

    assert kept.row.fault is not None
    assert kept.row.fault.code == "internal_error"
    assert "ZeroDivisionError" in rig.lines.text()


async def test_an_answer_of_the_demo_model_says_so() -> None:
    rig = Rig(echoed, wire="demo")
    kept = await rig.run(job_of("text", recipe_of(output_type="markdown")))
    plain = await rig.run(job_of("text"))

    assert kept.row.warnings == (DEMO,)
    assert kept.row.result == kept.shown == f"<text>\n\n---\n\n{DEMO}"
    assert plain.row.result == f"<text>\n\n{DEMO}"


async def test_a_job_stops_before_the_call_that_would_pass_its_most() -> None:
    rig = Rig(echoed)
    call_usd = tokens_of(json.dumps([{"role": "user", "content": "line 1"}])) * 1e-6 + 1000 * 2e-6
    kept = await rig.run(job_of(lines_of(50), recipe_of(max_cost_usd=call_usd + 0.001)))

    assert kept.row.fault is not None
    assert kept.row.fault.code == "max_cost_exceeded"
    assert 0 < len(kept.passes) < 50
    assert (kept.row.totals.cost_nusd or 0) < (call_usd + 0.001) * 1e9
    assert kept.row.result == kept.shown


async def test_nobody_is_asked_by_another_name_than_the_recipes() -> None:
    rig = Rig(echoed)
    await rig.run(job_of("text", origin=Origin(caller=ANYONE)))

    assert rig.model.calls[0].body["model"] == "model-of-fast"
    assert rig.model.calls[0].body["max_tokens"] == 1000


@pytest.mark.parametrize("models", [("small",), ("auto", "model-of-*"), ("service/minutes",)])
async def test_whose_key_does_not_name_the_service_asks_with_its_own_models(models: tuple[str, ...]) -> None:
    mine = Caller(kind="client", key_id="key_1", organization="acme", models=models)
    rig = Rig(echoed)

    await rig.run(job_of("text", origin=Origin(caller=mine), organization="acme"))

    assert rig.model.calls[0].exchange.caller.models == (None if models == ("service/minutes",) else models)
