"""What happened to one request: asked by whoever sent it, often right after its answer."""

import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial

import anyio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.api.ledger.asking import LIMIT_S, Reach, answer_in_time, as_json, own_reach_of, short
from llmgateway.api.ledger.shown import shown
from llmgateway.errors import NotFoundError
from llmgateway.storage.entry import LedgerEntry
from llmgateway.storage.recent import RecentEntries

# Finds an entry by the gateway's own id, else the newest with the client's, of those that may be seen.
Find = Callable[[str, Reach], Awaitable[LedgerEntry | None]]

WAIT_S = 2.0
# What RequestID lets through: nothing else can be in the ledger.
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_OURS = re.compile(r"req_([0-9a-f]{11})[0-9a-f]{15}")
# The id tells when a request began. Another process may have ended it a moment ago, and it may have taken this long.
_NEW_S = 600.0
_CLOCKS_APART_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.4


def routes(recent: RecentEntries, find: Find, *, wait_s: float = WAIT_S, limit_s: float = LIMIT_S) -> list[Route]:
    """Serve `/v1/requests/{request_id}`.

    Args:
        recent: The last entries of this process.
        find: Asks the database; raises an `OSError` when it is away.
        wait_s: How long a new request is waited for: another process brings its entries to the database by and by.
        limit_s: How long the database may take.
    """
    entries = _Entries(recent, find, wait_s, limit_s)

    async def read_request(request: Request) -> Response:
        request_id: str = request.path_params["request_id"]
        reach = own_reach_of(request)
        entry = await entries.entry(request_id, reach) if _ID.fullmatch(request_id) else None
        if entry is None:
            # The same text for "no such" and "not yours": nobody learns what others sent.
            raise NotFoundError(
                f"No request {short(request_id)} is known here, or it is not yours. Is it over? "
                "Its id is in the header X-Gateway-Request-ID of its answer."
            )
        return await as_json(shown(entry))

    return [Route("/v1/requests/{request_id}", read_request, methods=["GET"])]


class _Entries:
    """This process's memory first, then the database."""

    def __init__(self, recent: RecentEntries, find: Find, wait_s: float, limit_s: float) -> None:
        self._recent = recent
        self._find = find
        self._wait_s = wait_s
        self._limit_s = limit_s

    async def entry(self, request_id: str, reach: Reach) -> LedgerEntry | None:
        """Find an entry; wait a little for one that must be on its way."""
        until = time.perf_counter() + (self._wait_s if _is_new(request_id) else 0.0)
        pause_s = _FIRST_PAUSE_S
        while True:
            entry = self._remembered(request_id, reach)
            if entry is None:
                question = partial(self._find, request_id, reach)
                entry = await answer_in_time(question, self._limit_s)
            if entry is not None or time.perf_counter() >= until:
                return entry
            await anyio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _remembered(self, request_id: str, reach: Reach) -> LedgerEntry | None:
        ours = self._recent.by_id(request_id)
        found = [] if ours is None else [ours]
        for entry in found or self._recent.by_client_id(request_id):
            if reach.covers(entry):
                return entry
        return None


def _is_new(request_id: str) -> bool:
    ours = _OURS.fullmatch(request_id)
    if ours is None:
        return False
    age_s = datetime.now(UTC).timestamp() - int(ours[1], 16) / 1000
    return -_CLOCKS_APART_S <= age_s <= _NEW_S
