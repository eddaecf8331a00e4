"""Two deployments side by side: who takes too long gets a second one beside it, and the first to answer wins.

Three reasons. A hedge is what the catalog asks for: a stream whose first token is late. Silence is nobody's wish:
nothing at all has come from a deployment, neither to this call nor to another one meanwhile, for far longer than it or
its peers ever took. A probe is the one call that finds out whether a deployment is back, for which no client shall
wait. An attempt that answers in time costs one timer, and no task.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal

from llmgateway.catalog.model import Deployment
from llmgateway.errors import GatewayError
from llmgateway.exchange import Attempt, Call, Event, Exchange, Reply, Streamed
from llmgateway.routing.attempt import Attempts
from llmgateway.routing.failover.causes import goes_on, worth_most
from llmgateway.routing.health.begun import Begun

Kind = Literal["hedge", "silence", "probe"]
# Says now whether another one is to be asked, or in how many seconds to look again; `None` is never.
Verdict = Callable[[Begun], "Kind | float | None"]
CallOf = Callable[[Deployment], Call]
# Begins the attempt at the next deployment, after the error of the one before it; `None` when there is none.
Other = Callable[[GatewayError | None], Awaitable[Begun | None]]


class Race:
    """One attempt that may be joined by another.

    Args:
        call_of: Gives the call as a deployment is to get it.
        verdict: Asked when the patience is over.
        other: Finds and begins the second attempt.
    """

    __slots__ = (
        *("_attempts", "_beside", "_call_of", "_cancelling", "_exchange", "_first", "_kind", "_loop", "_other"),
        *("_second", "_task", "_timer", "_verdict", "_waits"),
    )

    def __init__(self, attempts: Attempts, exchange: Exchange, call_of: CallOf, verdict: Verdict, other: Other) -> None:
        self._attempts = attempts
        self._exchange = exchange
        self._call_of: CallOf | None = call_of
        self._verdict: Verdict | None = verdict
        self._other: Other | None = other
        self._loop = asyncio.get_running_loop()
        self._first: Begun | None = None
        self._second: Begun | None = None
        self._beside: asyncio.Task[Reply] | None = None
        self._kind: Kind = "silence"
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._timer: asyncio.TimerHandle | None = None
        self._waits = False

    async def run(self, first: Begun, patience_s: float) -> Reply:
        """Give the first answer. Raises: GatewayError: the last error when all who were asked failed."""
        self._first = first
        self._task = asyncio.current_task()
        self._cancelling = 0 if self._task is None else self._task.cancelling()
        self._timer = self._loop.call_later(patience_s, self._look)
        self._waits = True
        try:
            reply = await self._attempts.send(self._exchange, first, self._call_for(first))
        except asyncio.CancelledError:
            self._waits = False
            return await self._taken_over()
        except GatewayError as error:
            self._waits = False
            if self._beside is None or not await self._decides(first, self._beside, error):
                raise
            return self._won(first, self._beside.result())
        except BaseException:
            self._waits = False
            await self._give_up()
            raise
        else:
            self._waits = False
            await self._give_up(reply)
            return reply
        finally:
            self._timer.cancel()
            # Each holds the other, and the body: in a circle, all would wait for the collector.
            self._call_of = self._verdict = self._other = self._task = self._first = self._second = self._beside = None

    def _look(self) -> None:
        if self._verdict is None or self._first is None or not self._is_open():
            return
        verdict = self._verdict(self._first)
        if isinstance(verdict, str):
            self._kind = verdict
            self._beside = self._loop.create_task(self._ask_other())
            self._beside.add_done_callback(self._ended)
        elif verdict is not None:
            self._timer = self._loop.call_later(verdict, self._look)

    async def _ask_other(self) -> Reply:
        """Ask the next one; when that fails, the one after it."""
        second = None if self._other is None else await self._other(None)
        if second is None:
            raise _NobodyElseError("Nobody else can be asked.")
        while True:
            self._second = second
            try:
                return await self._attempts.send(self._exchange, second, self._call_for(second))
            except GatewayError as error:
                second = None if self._other is None else await self._other(error)
                if second is None:
                    raise

    def _call_for(self, begun: Begun) -> Call:
        if self._call_of is None:
            raise TypeError("the race is over")
        return self._call_of(begun.attempt.deployment)

    def _ended(self, beside: "asyncio.Task[Reply]") -> None:
        """The second one is over: when it answered, and the first did not yet, the first is let go."""
        if beside.cancelled() or beside.exception() is not None or not self._is_open():
            return
        if self._first is not None and self._task is not None:
            self._first.beaten = True
            self._first.silence_counts = self._kind != "hedge"
            self._task.cancel()

    def _is_open(self) -> bool:
        """Whether the first may still be beaten: its answer may be there already and only its tokens be counted."""
        first = self._first
        return self._waits and first is not None and first.attempt.ended is None and first.attempt.first_chunk is None

    async def _taken_over(self) -> Reply:
        """The first was cancelled: by the second's answer, or because its own client left. Raises: CancelledError."""
        first, beside, task = self._first, self._beside, self._task
        if first is None or beside is None or task is None or not first.beaten:
            await self._give_up()
            raise asyncio.CancelledError
        if task.uncancel() > self._cancelling:
            await self._give_up()
            raise asyncio.CancelledError
        return self._won(first, beside.result())

    async def _decides(self, first: Begun, beside: "asyncio.Task[Reply]", error: GatewayError) -> bool:
        """The first has failed: wait for the second; whether the call ends as that does, with an answer or not."""
        # It may have been late, or have failed, and been beaten in the same moment; and its client may have left.
        if first.beaten and self._task is not None and self._task.uncancel() > self._cancelling:
            await self._give_up()
            raise asyncio.CancelledError
        try:
            await asyncio.wait((beside,))
        except asyncio.CancelledError:
            await self._give_up()
            raise
        later = None if beside.cancelled() else beside.exception()
        if later is None:
            return not beside.cancelled()
        if isinstance(later, _NobodyElseError):
            return False
        self._tell(won=False)
        return not isinstance(later, GatewayError) or not goes_on(later) or worth_most((error, later)) is later

    def _won(self, first: Begun, reply: Reply) -> Reply:
        self._tell(won=True)
        if self._second is not None:
            self._stands_last(self._second.attempt)
            beside = f"{first.attempt.provider}/{first.attempt.model}"
            second = f"{self._second.attempt.provider}/{self._second.attempt.model}"
            self._exchange.route_reason = f"{second}: asked beside {beside} ({self._kind}) and faster"
        return reply

    async def _give_up(self, reply: Reply | None = None) -> None:
        """End the second one, also when it has just answered.

        Args:
            reply: The first one's, which nobody gets when this is cancelled.
        """
        if self._beside is None or self._first is None:
            return
        if self._second is not None:
            self._second.beaten = True
        self._beside.cancel()
        try:
            await _over(self._beside)
            await self._close_second(self._beside)
        except BaseException:
            await self._close_second(self._beside)
            await _close(reply)
            raise
        if self._second is not None:
            self._tell(won=False)
        self._stands_last(self._first.attempt)

    async def _close_second(self, beside: "asyncio.Task[Reply]") -> None:
        if not beside.cancelled() and beside.exception() is None:
            if self._second is not None:
                self._second.superseded()
            await _close(beside.result())

    def _stands_last(self, answered: Attempt) -> None:
        """Let whoever reads the exchange find who answered in its last line."""
        self._exchange.attempts.sort(key=lambda attempt: attempt is answered)
        self._exchange.provider, self._exchange.upstream_model = answered.provider, answered.model

    def _tell(self, *, won: bool) -> None:
        self._exchange.note(Event("race", time.perf_counter(), {"kind": self._kind, "won": won}))


async def _over(task: "asyncio.Task[Reply]") -> None:
    """Wait until a task is over, also when this is cancelled meanwhile: nothing may stay open."""
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            await _over(task)
            raise


async def _close(reply: Reply | None) -> None:
    if isinstance(reply, Streamed):
        await reply.chunks.aclose()


class _NobodyElseError(GatewayError):
    """There is no other deployment to ask."""
