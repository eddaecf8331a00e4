"""What jobs need of others, in their own words."""

from typing import Protocol

from llmgateway.caller import Caller
from llmgateway.exchange import Call, Exchange, Reply
from llmgateway.storage.jobs.rows import JobRow, PassRow


class Ask(Protocol):
    """Answers one call of a model as everybody's are answered, and writes it down. Raises: GatewayError."""

    async def __call__(self, exchange: Exchange, call: Call) -> Reply: ...


class Record(Protocol):
    """Writes an exchange down that is over: ledger, metrics, log, trace; never waits, never raises."""

    def __call__(self, exchange: Exchange) -> None: ...


class Callers(Protocol):
    """Looks up who ordered a job, as the key stands now.

    Raises:
        AuthenticationError: The key is no longer valid.
        KeysAwayError: That cannot be found out now.
    """

    async def __call__(self, caller: Caller) -> Caller: ...


class Teller(Protocol):
    """Hears of jobs, for metrics, log and traces; never waits, never raises."""

    def submitted(self, job: JobRow) -> None: ...

    def started(self, job: JobRow, waited_s: float | None) -> None:
        """A worker has the job, after so long; `None` when it goes on where another worker stopped."""
        ...

    def passed(self, job: JobRow, done: PassRow) -> None: ...

    def ended(self, job: JobRow) -> None: ...


class Queue(Protocol):
    """Tells workers that there is work. The database is the truth: a lost message loses nothing."""

    async def announce(self, job_id: str) -> None:
        """Say that a job waits; never raises: a sweep says it again."""
        ...

    async def check(self) -> str | bool:
        """Answer readiness: whether the broker answers; if not, why, without its address."""
        ...

    async def close(self) -> None: ...
