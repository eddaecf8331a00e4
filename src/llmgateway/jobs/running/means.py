"""What all runs of one process share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from llmgateway.documents.recipe import Count, Recipe
from llmgateway.jobs.seams import Ask, Callers, Record, Teller
from llmgateway.storage.jobs.rows import Claimed, Lease, Step
from llmgateway.stores.base import Bell, Limiter


class Jobs(Protocol):
    """Jobs as a worker asks for them: `JobStorage` says what each does. Every question raises `StorageAwayError`."""

    async def claim(self, worker: str, lease_s: float) -> Claimed | None: ...

    async def renew(self, leases: Sequence[Lease], lease_s: float) -> set[str]: ...

    async def commit(self, lease: Lease, step: Step) -> None: ...

    async def hand_back(self, lease: Lease) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds.

    Args:
        request_s: The longest that a call may take, its retries among it.
        lease_s: A job is free again so long after its worker has died.
        look_every_s: Leases are renewed, and a job that was cancelled is noticed, after so long at most.
        pieces_every_s: Between two commits of text that is shown while it is said.
        patience_s: A call that this gateway's own limits hold back is waited for so long.
        away_s: Between two tries to reach a database that is away.
    """

    request_s: float = 590.0
    lease_s: float = 15.0
    look_every_s: float = 1.0
    pieces_every_s: float = 0.25
    patience_s: float = 900.0
    away_s: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Everything that a run uses and that is not its own.

    Args:
        count: Gives what counts the tokens of a recipe's model.
        at_once: Calls of one job at the same time, where its flavor says nothing.
        most_tries: How often a call is tried in all, for those who watch it being retried; `None` is unknown.
    """

    jobs: Jobs
    ask: Ask
    record: Record
    callers: Callers
    count: Callable[[Recipe], Count]
    limiter: Limiter
    bell: Bell
    teller: Teller
    times: Times
    logger: FilteringBoundLogger
    at_once: int = 8
    most_tries: int | None = None
