"""Counts the requests that run, refuses those above the limit, and ends what is left when the process must go."""

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from llmgateway.errors import OverloadedError, ShuttingDownError
from llmgateway.exchange import Exchange


class Running:
    """The requests in flight in this process."""

    def __init__(self) -> None:
        self.tasks: dict[asyncio.Task[object], Exchange] = {}

    def end_all(self) -> int:
        """Cancel every request; each tells its client why. Returns how many there were."""
        for task, exchange in self.tasks.items():
            if exchange.cancelled_by is None:
                exchange.cancelled_by = ShuttingDownError("The gateway is shutting down. Try again.")
                task.cancel()
        return len(self.tasks)


class Inflight:
    """Lets at most `limit` requests in at a time."""

    def __init__(self, app: ASGIApp, *, running: Running, limit: int) -> None:
        self._app = app
        self._running = running
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tasks = self._running.tasks
        if len(tasks) >= self._limit:
            raise OverloadedError(f"The gateway is at its limit of {self._limit} requests at once.", retry_after_s=1.0)
        request = scope.get("request")
        task = asyncio.current_task() if request is None else request.task
        if task is None:
            raise RuntimeError
        tasks[task] = scope["exchange"]
        try:
            await self._app(scope, receive, send)
        finally:
            del tasks[task]
