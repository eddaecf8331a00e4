"""Sends the webhooks that are due, again and again for a day, signed as Standard Webhooks has it.

When the next try is due is written down before this one is made: another process leaves it alone meanwhile, and one
that is killed while it sends loses nothing. So whoever listens may hear of an end twice, under the same `webhook-id`.
https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

import anyio
from structlog.typing import FilteringBoundLogger

from llmgateway.catalog.snapshot import Webhooks as Rules
from llmgateway.jobs.hooks.address import ForbiddenAddressError, Target, resolved
from llmgateway.jobs.hooks.post import Poster
from llmgateway.storage.jobs.rows import Hook, JobRow, Wanted
from llmgateway.telemetry.webhooks import signed

# The waits between tries, then the last of them again and again.
WAITS_S = (5.0, 30.0, 120.0, 600.0, 1_800.0, 3_600.0, 7_200.0)
GIVEN_UP_AFTER_S = 24 * 3600.0
EVERY_S = 5.0
_PAUSE_S = 0.5
_AT_ONCE = 8
_GONE = 410
_EVERYBODYS = Wanted(everyone=True)


class _UnsentError(Exception):
    """Why a try failed, without the address; `final` when no other will do better."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class HookStorage(Protocol):
    """Where webhooks are kept with their jobs. Each raises: StorageAwayError."""

    async def due_hooks(self, now: datetime, most: int = 50) -> list[Hook]: ...

    async def hook_tried(self, job_id: str, next_at: datetime | None) -> None: ...

    async def job(self, job_id: str, wanted: Wanted) -> JobRow | None: ...


class Hooks:
    """Looks for what is due every few seconds, and at once when told that a job ended.

    Args:
        rules: The catalog's, as they are at that moment.
        body: Writes a job as clients read it.
        waits_s: Between tries.
    """

    def __init__(
        self,
        jobs: HookStorage,
        rules: Callable[[], Rules],
        body: Callable[[JobRow], bytes],
        logger: FilteringBoundLogger,
        *,
        waits_s: Sequence[float] = WAITS_S,
        every_s: float = EVERY_S,
        poster: Poster | None = None,
        find: Callable[..., Awaitable[Target]] = resolved,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._jobs = jobs
        self._rules = rules
        self._body = body
        self._logger = logger
        self._waits_s = tuple(waits_s)
        self._every_s = every_s
        self._poster = poster or Poster()
        self._find = find
        self._clock = clock
        self._poked = asyncio.Event()

    def poke(self) -> None:
        """Look now: a job with a webhook has ended. Never waits, never raises; only on the event loop."""
        self._poked.set()

    async def run(self) -> None:
        """Send for ever; cancel to end."""
        while True:
            self._poked.clear()
            try:
                await self.send_due()
            except OSError:
                pass  # the database is away, which it has told itself: the next round asks again
            except Exception:  # whatever it is: without this loop nobody would be told any more
                self._logger.exception("webhooks_broke", effect="they are tried again")
            # However many jobs end, the database is not asked for each of them.
            await anyio.sleep(min(_PAUSE_S, self._every_s))
            with anyio.move_on_after(self._every_s):
                await self._poked.wait()

    async def close(self) -> None:
        """Give connections back."""
        await self._poster.close()

    async def send_due(self) -> None:
        """Try once all that is due. Raises: StorageAwayError."""
        due = await self._jobs.due_hooks(self._clock())
        room = anyio.Semaphore(_AT_ONCE)

        async def in_turn(hook: Hook) -> None:
            async with room:
                await self._tried(hook)

        async with anyio.create_task_group() as group:
            for hook in due:
                group.start_soon(in_turn, hook)

    async def _tried(self, hook: Hook) -> None:
        try:
            await self._try(hook)
        except OSError:
            return  # the database is away: it stays due

    async def _try(self, hook: Hook) -> None:
        next_at = self._clock() + timedelta(seconds=self._wait_s(hook.tries))
        await self._jobs.hook_tried(hook.job_id, next_at)
        job = await self._jobs.job(hook.job_id, _EVERYBODYS)
        if job is None:
            return  # deleted meanwhile, and its webhook with it
        tries = hook.tries + 1
        try:
            await self._send(hook, self._body(job))
        except _UnsentError as failed:
            given_up = failed.final or next_at >= hook.since + timedelta(seconds=GIVEN_UP_AFTER_S)
            self._logger.warning(
                "webhook_failed", job_id=hook.job_id, tries=tries, reason=str(failed), given_up=given_up
            )
            if not given_up:
                return
        else:
            self._logger.info("webhook_sent", job_id=hook.job_id, tries=tries)
        await self._jobs.hook_tried(hook.job_id, None)

    async def _send(self, hook: Hook, body: bytes) -> None:
        rules = self._rules()
        if rules.secret is None:
            raise _UnsentError("`webhooks.secret` is no longer in the catalog")
        try:
            target = await self._find(hook.url, allow_private=rules.allow_private)
            status = await self._poster.post(target, body, signed(_id(hook.job_id), body, rules.secret))
        except ForbiddenAddressError as error:
            raise _UnsentError(f"it {error}") from error
        except ValueError as error:
            raise _UnsentError(f"its address {error}", final=True) from error
        except OSError as error:
            raise _UnsentError(str(error) or type(error).__name__) from error
        if status // 100 != 2:  # noqa: PLR2004  any success
            # The specification: whoever says that it is gone wants nothing more.
            raise _UnsentError(f"HTTP status {status}", final=status == _GONE)

    def _wait_s(self, tries: int) -> float:
        return self._waits_s[min(tries, len(self._waits_s) - 1)] * random.uniform(0.8, 1.2)


def _id(job_id: str) -> str:
    """Name the event by its job: the same at every try, in every process."""
    return f"msg_{job_id.replace('-', '')}"
