"""Where jobs are ordered, repeated, resumed and cancelled, whatever way the wish came in."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from msgspec import structs

from llmgateway.caller import Caller
from llmgateway.catalog.snapshot import Catalog
from llmgateway.errors import ConflictError, NotFoundError, PermissionDeniedError
from llmgateway.ids import new_uuid
from llmgateway.jobs.asking import in_time, told
from llmgateway.jobs.order import Order
from llmgateway.jobs.planning import Planned, Planner, check_text, explained
from llmgateway.jobs.running.passes import sum_of
from llmgateway.jobs.seams import Queue, Teller
from llmgateway.jobs.services import Services
from llmgateway.jobs.work import work_from
from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import (
    LIVE,
    JobRow,
    NewJob,
    Origin,
    PassRow,
    Progress,
    Wanted,
)
from llmgateway.tokens.counter import TokenCounter

BELL = "jobs"
# Where an error comes of answers that are written down: how their steps begin.
_IN_VAIN = {"invalid_output": "repair:", "answer_too_long": "reduce:"}


class Rings(Protocol):
    """The part of a bell that is rung."""

    def ring(self, name: str) -> None: ...


def _now() -> datetime:
    return datetime.now(UTC)


async def _any_address(_: str) -> None:
    """Webhooks may go anywhere."""


class Desk:
    """Takes orders.

    Args:
        names: Gives the catalog as it is now.
        bell: Rung when a job is new or was cancelled, so that nobody has to look for it.
        check_hook: Refuses addresses to which no webhook may be sent. Raises: InvalidRequestError.
    """

    def __init__(
        self,
        services: Services,
        jobs: JobStorage,
        names: Callable[[], Catalog],
        counter: TokenCounter,
        *,
        queue: Queue,
        bell: Rings,
        teller: Teller,
        check_hook: Callable[[str], Awaitable[None]] = _any_address,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self._planner = Planner(services, names, counter)
        self._jobs = jobs
        self._queue = queue
        self._bell = bell
        self._teller = teller
        self._check_hook = check_hook
        self._now = now

    async def plan(self, order: Order) -> Planned:
        """Decide what a run of this order does: the very plan that `submit` writes down.

        Raises:
            NotFoundError: There is no such service or flavor, or it is another organization's: the same text.
            PermissionDeniedError: The key may not run it.
            DocumentError: It cannot run, or not with this document; `code` says why.
            LedgerAwayError: The database is away.
        """
        with told():
            return await self._planner.plan(order)

    async def explained(self, order: Order) -> dict[str, Any]:
        """Tell what `plan` gives, as clients read it. Raises: as `plan`."""
        return explained(await self.plan(order))

    async def submit(self, order: Order, *, from_job: str | None = None) -> tuple[JobRow, bool]:
        """Make a job of an order, or give the one that it has made before.

        Args:
            from_job: The one that this repeats.

        Returns:
            The job, and whether it is new.

        Raises:
            InvalidRequestError: The webhook may not be sent there.
            ConflictError: The idempotency key was sent with another body.
            GatewayError: As `plan`.
        """
        if order.webhook_url is not None:
            await self._check_hook(order.webhook_url)
        origin, now = _origin(order, from_job), self._now()
        # The same order gets its job, whatever became of the service since; and nobody plans it again.
        if (before := await in_time(lambda: self._jobs.made_before(origin, now))) is not None:
            return before, False
        planned = await self.plan(order)
        settings = planned.flavor.settings
        work = planned.work
        new = NewJob(
            id=new_uuid(),
            service_id=planned.service.id,
            service_name=planned.service.name,
            service_route=planned.service.route,
            flavor_id=planned.flavor.id,
            flavor_name=planned.flavor.name,
            priority=priority_of(order.priority, settings.priority, order.caller),
            text=order.text,
            work=work.encoded(),
            origin=origin,
            created_at=now,
            organization_id=order.organization,
            input_tokens=work.plan.input_tokens,
            input_file_name=order.file_name,
            records=planned.records,
            progress=Progress(total=planned.calls, total_batches=len(work.plan.batches), total_turns=work.plan.turns),
            metadata=order.metadata,
            webhook_url=order.webhook_url,
            ttl_s=settings.default_ttl_seconds,
        )
        return await self._written(new)

    async def rerun(self, job_id: str, wanted: Wanted, order: Order) -> tuple[JobRow, bool]:
        """Make a new job of another one's document, with the services as they are now.

        Args:
            order: Who asks, and what is to be different (`flavor`); the service and the text are the old job's.

        Raises:
            NotFoundError: There is no such job, or it is another organization's.
            GatewayError: As `submit`.
        """
        job = await self._there(job_id, wanted)
        text, kept = await in_time(lambda: self._jobs.text(job_id)), await in_time(lambda: self._jobs.work(job_id))
        if text is None or kept is None:
            raise no_job(job_id)
        work = work_from(kept)
        again = structs.replace(
            order,
            service=job.service_id,
            flavor=order.flavor or job.records.original_flavor_id or job.flavor_id,
            text=text,
            organization=job.organization_id,
            file_name=job.input_file_name,
            extras=work.extras,
            priority=order.priority,
            metadata=job.metadata,
            webhook_url=job.webhook_url,
            tags=work.tags,
            allow_new_tags=work.allow_new_tags,
        )
        return await self.submit(again, from_job=job.id)

    async def resume(self, job_id: str, wanted: Wanted, order: Order) -> tuple[JobRow, bool]:
        """Make a new job that goes on where a failed one stopped: what that has paid for is not asked again.

        Args:
            order: Who asks.

        Raises:
            NotFoundError: There is no such job, or it is another organization's.
            ConflictError: It has not failed.
            PermissionDeniedError: The key may not run it.
        """
        job = await self._there(job_id, wanted)
        if job.status != "failed":
            raise ConflictError(
                f"The job {job_id} is {job.status}, and only a failed one can be resumed. "
                f"POST /api/v1/jobs/{job_id}/rerun runs it anew.",
                code="job_not_failed",
                details={"status": job.status},
            )
        text, kept = await in_time(lambda: self._jobs.text(job_id)), await in_time(lambda: self._jobs.work(job_id))
        if text is None or kept is None:
            raise no_job(job_id)
        check_text(text)
        await self._check(job, order, work_from(kept).recipe.model)
        passes = await in_time(lambda: self._jobs.passes(job_id))
        passes = _of_use(job, passes)
        new = self._resumed(job, text, kept, order)
        return await self._written(
            structs.replace(new, origin=structs.replace(new.origin, inherited=sum_of(passes))), passes
        )

    async def cancel(self, job_id: str, wanted: Wanted) -> JobRow:
        """End a live job with what it has of its result; one that has ended stays as it is.

        Raises:
            NotFoundError: There is no such job, or it is another organization's.
        """
        before = await self._there(job_id, wanted)
        job = await in_time(lambda: self._jobs.cancel(job_id, wanted))
        if job is None:
            raise no_job(job_id)
        self._bell.ring(BELL)  # whoever runs it hears of it
        if before.status in LIVE and job.status == "cancelled":
            self._teller.ended(job)
        return job

    async def _there(self, job_id: str, wanted: Wanted) -> JobRow:
        job = await in_time(lambda: self._jobs.job(job_id, wanted))
        if job is None:
            raise no_job(job_id)
        return job

    async def _check(self, job: JobRow, order: Order, model: str) -> None:
        """Whether the one who asks may still run this. Raises: GatewayError."""
        # Who falls back may run a flavor of another service: what was asked for is the service's own.
        flavor = job.records.original_flavor_id or job.flavor_id
        asked = structs.replace(order, service=job.service_id, flavor=flavor, organization=job.organization_id)
        with told():
            await self._planner.check(asked, model)

    def _resumed(self, job: JobRow, text: str, work: bytes, order: Order) -> NewJob:
        return NewJob(
            id=new_uuid(),
            service_id=job.service_id,
            service_name=job.service_name,
            service_route=job.service_route,
            flavor_id=job.flavor_id,
            flavor_name=job.flavor_name,
            priority=job.priority,
            text=text,
            work=work,
            origin=_origin(order, job.id),
            created_at=self._now(),
            organization_id=job.organization_id,
            input_tokens=job.input_tokens,
            input_file_name=job.input_file_name,
            records=job.records,
            progress=Progress(
                total=job.progress.total,
                total_batches=job.progress.total_batches,
                total_turns=job.progress.total_turns,
            ),
            metadata=job.metadata,
            webhook_url=job.webhook_url,
            ttl_s=job.ttl_s,
        )

    async def _written(self, new: NewJob, passes: list[PassRow] | None = None) -> tuple[JobRow, bool]:
        job, is_new = await in_time(lambda: self._jobs.submit(new, passes or ()))
        if is_new:
            # Told first, so that whoever hears the bell finds it counted.
            self._teller.submitted(job)
            await self._queue.announce(job.id)
            self._bell.ring(BELL)
        return job, is_new


def priority_of(asked: int | None, usual: int, caller: Caller) -> int:
    """Give a job's priority: the flavor's, unless another one is asked for.

    Raises:
        PermissionDeniedError: It is more urgent than both the flavor and what the key's owner allows.
    """
    if asked is None:
        return usual
    least = min(usual, caller.most_urgent)
    if asked < least and caller.kind in {"client", "shared"}:
        raise PermissionDeniedError(
            f"This key may ask for no priority more urgent than {least} here: send {least} to 9, or none.",
            param="priority",
            code="priority_not_allowed",
            details={"most_urgent": least},
        )
    return asked


def no_job(job_id: str) -> NotFoundError:
    """Say that there is no such job: the same for one that is another's."""
    shown = job_id if len(job_id) <= 64 and job_id.isprintable() else "…"  # noqa: PLR2004  longer than any id
    return NotFoundError(f"There is no job `{shown}` here, or it is not yours. GET /api/v1/jobs lists yours.")


def _of_use(job: JobRow, passes: list[PassRow]) -> list[PassRow]:
    """Leave out the answers that a job failed by: to begin with them is to fail at once again."""
    in_vain = None if job.fault is None else _IN_VAIN.get(job.fault.code)
    return passes if in_vain is None else [one for one in passes if not one.step.startswith(in_vain)]


def _origin(order: Order, from_job: str | None) -> Origin:
    caller = structs.replace(order.caller, provider_key=None)
    return Origin(
        caller=caller,
        # Who acts for several organizations has keys for each.
        scope=f"{caller.key_id or ''}/{order.organization or ''}",
        idempotency_key=order.idempotency_key,
        body_digest=order.body_digest,
        joins=order.joins,
        request_id=order.request_id,
        trace=order.trace,
        from_job=from_job,
    )
