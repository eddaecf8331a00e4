"""Watches jobs as programs do: over server-sent events and over WebSockets, from the event on that is known."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

import httpx2
import websockets
from websockets.exceptions import ConnectionClosedOK

Events = AsyncGenerator[dict[str, Any]]
# Follows a job from the event after that one.
Follow = Callable[[httpx2.AsyncClient, str, int], Events]

_ENDED = ("completed", "failed", "cancelled")
_WITHIN_S = 25.0


async def over_sse(client: httpx2.AsyncClient, job_id: str, after: int) -> Events:
    """Read a job's events; without an end when there is nothing more to come."""
    headers = {"Last-Event-ID": str(after)} if after else {}
    async with client.stream("GET", f"/api/v1/jobs/{job_id}/events", headers=headers) as answer:
        assert answer.status_code in {200, 204}, await answer.aread()
        number = ""
        async for line in answer.aiter_lines():
            field, _, value = line.partition(": ")
            if field == "id":
                number = value
            if field == "data":
                event = json.loads(value)
                assert event["id"] == int(number)
                yield event


async def over_socket(client: httpx2.AsyncClient, job_id: str, after: int) -> Events:
    """Read a job's events."""
    place = f"?last_event_id={after}" if after else ""
    url = str(client.base_url.copy_with(scheme="ws")).rstrip("/") + f"/ws/jobs/{job_id}{place}"
    # With a queue that is full, the client would not read the answer to its leaving.
    async with websockets.connect(url, proxy=None, max_size=None, max_queue=None) as socket:
        try:
            while True:
                yield json.loads(await socket.recv())
        except ConnectionClosedOK:
            return


async def dropping(follow: Follow, client: httpx2.AsyncClient, job_id: str, *, kept: int = 1) -> list[dict[str, Any]]:
    """Watch to the end with a connection that is lost after every so many events."""
    seen: list[dict[str, Any]] = []
    async with asyncio.timeout(_WITHIN_S):
        while not seen or seen[-1]["status"] not in _ENDED:
            async with aclosing(follow(client, job_id, seen[-1]["id"] if seen else 0)) as events:
                left = kept
                async for event in events:
                    seen.append(event)
                    left -= 1
                    if not left:
                        break
    return seen


async def all_of(follow: Follow, client: httpx2.AsyncClient, job_id: str, after: int = 0) -> list[dict[str, Any]]:
    """Watch to the end."""
    async with asyncio.timeout(_WITHIN_S), aclosing(follow(client, job_id, after)) as events:
        return [event async for event in events]


def check_whole(events: list[dict[str, Any]]) -> None:
    """Every event once, in order; the percentage never goes back; the pieces of the output are the result."""
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    shares = [event["progress"]["percentage"] for event in events]
    assert shares == sorted(shares)
    text = ""
    for event in events:
        if output := event.get("output"):
            assert output["offset"] == len(text)
            text += output["text"]
    assert events[-1]["event_type"] == "complete"
    assert events[-1]["result"] == text
