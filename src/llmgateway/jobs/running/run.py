"""One job's run, from its claim to its end: the pipeline asks, the answers are written down, the result is given."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio.to_thread
from msgspec import structs

from llmgateway.caller import Caller
from llmgateway.documents.pipeline import Pipeline, Wave, pipeline
from llmgateway.documents.planning import replan
from llmgateway.documents.question import AnswerError
from llmgateway.documents.recipe import Plan
from llmgateway.errors import DocumentError, GatewayError, KeysAwayError
from llmgateway.jobs.recipes import names_service
from llmgateway.jobs.running.commits import Commits, state_of
from llmgateway.jobs.running.failing import INVALID_OUTPUT, AskError, failover_event, fault_of, may_fail_over, reason_of
from llmgateway.jobs.running.means import Means
from llmgateway.jobs.running.progress import ended
from llmgateway.jobs.running.reins import PulledError, Reins
from llmgateway.jobs.running.showing import in_same_form
from llmgateway.jobs.running.waves import DEMO, Waves
from llmgateway.jobs.work import Work, work_from
from llmgateway.storage.jobs.rows import Claimed, FailoverStep, FencedError, JobFault, Lease, Status, Step
from llmgateway.storage.queries import StorageAwayError

_BUG = JobFault("internal_error", "The gateway failed. The log has the cause under this job's id.")


@dataclass(frozen=True, slots=True)
class _Result:
    """A pipeline's end."""

    text: str


class Run:
    """Brings one claimed job to its end, or gives it back."""

    def __init__(self, means: Means, claimed: Claimed) -> None:
        self.reins = Reins()
        self._means = means
        self._claimed = claimed
        self._state = state_of(claimed)
        self._commits = Commits(means.jobs, means.times, self._state, self.reins)
        self._ending = False

    @property
    def lease(self) -> Lease:
        """The right to change this job."""
        return self._claimed.lease

    def lose(self) -> None:
        """Drop everything: the job was cancelled, or is somebody else's."""
        if not self._ending:  # then its end itself finds out, and may be what was noticed
            self.reins.pull("lost")

    async def to_end(self) -> None:
        """Run until the job has ended, is handed back, or is lost. Never raises."""
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(self._commits.keep())
            try:
                await self._ended()
            except PulledError:
                await self._hand_back()
            finally:
                keeping.cancel()

    async def _ended(self) -> None:
        try:
            await self._completed()
        except (GatewayError, AnswerError) as error:
            await self._fail(fault_of(error))
        except PulledError:
            raise
        except Exception:  # the last one: whatever it is, the job ends with a reason and the log has the cause
            self._means.logger.exception("job_failed_unexpectedly", job_id=self.lease.job_id)
            await self._fail(_BUG)

    async def _completed(self) -> None:
        work = await anyio.to_thread.run_sync(work_from, self._claimed.work)
        job = self._state.job
        # A job that goes on where another worker stopped has waited before.
        waited_s = None if self._state.progress.phase else (datetime.now(UTC) - job.created_at).total_seconds()
        self._means.teller.started(job, waited_s)
        caller = await self._caller()
        waves = self._waves(work, caller)
        await self._begin(waves)
        result: str | None = None
        while result is None:
            try:
                result = await self._asked(work, waves)
            except (GatewayError, AnswerError) as error:
                work = await self._failed_over(work, waves, error)
                waves = self._waves(work, caller)
        await self._complete(work, result)

    async def _caller(self) -> Caller:
        """Look up who ordered the job. Raises: AuthenticationError: the key is no longer valid."""
        while True:
            self.reins.check()
            try:
                found = await self._means.callers(self._state.job.origin.caller)
            except KeysAwayError:
                await self.reins.pause(self._means.times.away_s)
                continue
            job, records = self._state.job, self._state.job.records
            flavors = (job.flavor_name, records.original_flavor_name or job.flavor_name)
            # Whose key names the service may run it with the model that it has; all others with their own models.
            by_name = names_service(found, job.service_route, *flavors)
            return structs.replace(found, models=None) if by_name else found

    def _waves(self, work: Work, caller: Caller) -> Waves:
        return Waves(
            self._means,
            self._state,
            self._commits,
            self.reins,
            caller=caller,
            recipe=work.recipe,
            plan=work.plan,
        )

    async def _begin(self, waves: Waves) -> None:
        state = self._state

        def step() -> Step:
            state.progress = waves.pacing.began()
            event = {"event_type": "status_change"}
            return Step(status="processing", progress=state.progress, totals=state.totals, events=(event,))

        await self._commits.commit(step)

    async def _asked(self, work: Work, waves: Waves) -> str:
        """Take the pipeline to its end. Raises: GatewayError, AnswerError, PulledError."""
        count = self._means.count(work.recipe)
        steps = pipeline(self._claimed.text, work.recipe, work.plan, work.extras, count)
        answers: Mapping[str, str] | None = None
        while True:
            self.reins.check()
            # It cuts, counts and puts together: seconds, for a long document.
            found = await anyio.to_thread.run_sync(_advanced, steps, answers)
            if isinstance(found, _Result):
                return found.text
            answers = await waves.answers(found)

    async def _failed_over(self, work: Work, waves: Waves, error: AskError) -> Work:
        """Let the next flavor go on that can. Raises: the error, when there is none."""
        done: frozenset[str] = frozenset() if error.code == INVALID_OUTPUT else waves.pacing.steps_done
        state, before, reason = self._state, work, reason_of(error)
        chain = list(state.records.failover_chain)
        while may_fail_over(work, error):
            chain.append(FailoverStep(work.recipe.flavor_name, reason))
            recipe = work.recipes[work.at + 1]
            if state.partial or done:  # answers in two forms are no result
                recipe = in_same_form(recipe, before.recipe, before.plan)
            recipes = (*work.recipes[: work.at + 1], recipe, *work.recipes[work.at + 2 :])
            work = structs.replace(work, recipes=recipes, at=work.at + 1)
            try:
                plan = await self._planned(work, before, done)
            except DocumentError as misfit:
                reason = reason_of(misfit)
                continue
            work = structs.replace(work, plan=plan)
            await self._change(work, chain, failover_event(error, before.recipe.flavor_name, recipe.flavor_name))
            return work
        raise error

    async def _planned(self, work: Work, before: Work, done: frozenset[str]) -> Plan:
        recipe, text = work.recipe, self._claimed.text
        count = self._means.count(recipe)
        return await anyio.to_thread.run_sync(replan, text, before.plan, done, recipe, work.extras, count)

    async def _change(self, work: Work, chain: list[FailoverStep], event: Mapping[str, Any]) -> None:
        """Write down that another flavor goes on, and the answer for which the last one was given up."""
        state, encoded = self._state, await anyio.to_thread.run_sync(work.encoded)

        def step() -> Step:
            state.records = structs.replace(
                state.records,
                failover_applied=True,
                failover_chain=tuple(chain),
                failover_reason=chain[-1].reason,
                final_flavor_name=work.recipe.flavor_name,
            )
            rejected, state.rejected = tuple(state.rejected), []
            return Step(
                passes=rejected,
                totals=state.totals,
                records=state.records,
                work=encoded,
                warnings=state.warnings,
                events=(event,),
            )

        await self._commits.commit(step)

    async def _complete(self, work: Work, result: str) -> None:
        state, commits = self._state, self._commits
        if DEMO in state.warnings and work.recipe.settings.output_type != "json":
            # Whoever reads only the result is to know as well.
            result = (
                f"{result}\n\n---\n\n{DEMO}"
                if work.recipe.settings.output_type == "markdown"
                else f"{result}\n\n{DEMO}"
            )
        if result.startswith(commits.shown_from(0)):
            commits.show(0, result)
        else:
            self._means.logger.error("result_differs_from_what_was_shown", job_id=self.lease.job_id)
        # The last event is alone in its commit: whoever sees the final state has seen everything else.
        await commits.flush()
        records = state.records
        if records.final_flavor_name is None:
            records = structs.replace(records, final_flavor_name=work.recipe.flavor_name)
        state.records, state.progress = records, ended(state.progress)
        event = {"event_type": "complete", "result": result, "warnings": list(state.warnings)}
        await self._end("completed", Step(result=result, records=records, events=(event,)))

    async def _fail(self, fault: JobFault) -> None:
        state = self._state
        await self._commits.flush()
        rejected, state.rejected = tuple(state.rejected), []
        event = {"event_type": "error", "error": {"code": fault.code, "message": fault.message}}
        step = Step(fault=fault, passes=rejected, result=state.partial or None, events=(event,))
        await self._end("failed", step)

    async def _end(self, status: Status, step: Step) -> None:
        state = self._state
        self._ending = True
        step = structs.replace(
            step, status=status, totals=state.totals, progress=state.progress, warnings=state.warnings
        )
        await self._commits.commit(lambda: step)
        now = datetime.now(UTC)
        job = structs.replace(state.row(), status=status, fault=step.fault, result=step.result, completed_at=now)
        self._means.teller.ended(job)

    async def _hand_back(self) -> None:
        """Let another worker go on, unless one does already."""
        if self.reins.why == "lost":
            return
        with suppress(PulledError):  # a piece that is not written down is said again
            await self._commits.flush()
        try:
            await self._means.jobs.hand_back(self.lease)
        except (StorageAwayError, FencedError):
            return  # the lease runs out by itself


def _advanced(steps: Pipeline, answers: Mapping[str, str] | None) -> Wave | _Result:
    """Take a pipeline on; a thread cannot raise `StopIteration`."""
    try:
        return next(steps) if answers is None else steps.send(answers)
    except StopIteration as end:
        return _Result(end.value)
