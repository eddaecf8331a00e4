"""Asks of /api/v1 as programs make them: ordered, waited for, read."""

from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import anyio
import httpx2

# Machines differ, and this one may be busy; whoever waits longer waits in vain.
WITHIN_S = 25.0
_LOOK_S = 0.02


class Asks(Protocol):
    """Whoever sends requests."""

    @property
    def request(self) -> Callable[..., Coroutine[Any, Any, httpx2.Response]]: ...


async def ask(client: Asks, method: str, path: str, status: int = 200, **more: Any) -> Any:
    """Ask; the status must be this one."""
    answer = await client.request(method, f"/api/v1{path}", **more)
    assert answer.status_code == status, f"{answer.status_code}: {answer.text}"
    return answer.json() if answer.content else None


async def order(client: Asks, text: str, service: str = "notes", **more: Any) -> str:
    """Order a job; gives its id."""
    made = await ask(client, "POST", f"/services/{service}/execute", 202, json={"input": text, **more})
    job_id: str = made["job_id"]
    return job_id


async def ended(client: Asks, job_id: str, status: str = "completed") -> dict[str, Any]:
    """Wait for the end of a job, which must be this one."""
    with anyio.fail_after(WITHIN_S):
        while (job := await ask(client, "GET", f"/jobs/{job_id}"))["completed_at"] is None:  # noqa: ASYNC110
            await anyio.sleep(_LOOK_S)
    assert job["status"] == status, job
    found: dict[str, Any] = job
    return found


async def started(client: Asks, job_id: str) -> None:
    """Wait until a job is at work."""
    with anyio.fail_after(WITHIN_S):
        while (await ask(client, "GET", f"/jobs/{job_id}"))["status"] == "queued":  # noqa: ASYNC110
            await anyio.sleep(_LOOK_S)


async def ran(client: Asks, text: str, service: str = "notes", **more: Any) -> dict[str, Any]:
    """Order a job and wait for its result."""
    return await ended(client, await order(client, text, service, **more))
