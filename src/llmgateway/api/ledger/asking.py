"""What all questions to the ledger share: whose rows they may see, how long they may take, what is right to ask."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime, time
from typing import TypeVar

import anyio
import msgspec
from anyio import to_thread
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from llmgateway.errors import InvalidRequestError, LedgerAwayError
from llmgateway.exchange import Exchange
from llmgateway.storage.entry import LedgerEntry

LIMIT_S = 10.0
FLUSH_LIMIT_S = 1.0
# Ships what this process has written down so far, within so many seconds.
Flush = Callable[[float], Awaitable[bool]]

_MANY_ROWS = 500  # from here on rendering takes longer than a thread costs
_LONGEST_SHOWN = 100
# A plus sign that nobody escaped arrives as a space.
_LOST_PLUS = re.compile(r"(?<=[\d.]) (?=\d\d:?\d\d$)")

Answer = TypeVar("Answer")


class Reach(Struct, frozen=True):
    """Whose rows may be seen: those that have this organization and this key; `None` is any."""

    organization: str | None = None
    key_id: str | None = None

    def covers(self, entry: LedgerEntry) -> bool:
        """Whether an entry is one of them."""
        return self.organization in {None, entry.organization_id} and self.key_id in {None, entry.key_id}


EVERYTHING = Reach()


def reach_of(request: Request) -> Reach:
    """Give what whoever asks may see of the usage: an organization's where there is one, else that of one key.

    Raises:
        InvalidRequestError: An organization is named in a way that nobody is: without it, everything would be shown.
    """
    exchange: Exchange = request.scope["exchange"]
    caller, organization = exchange.caller, exchange.organization
    if caller.kind in {"anyone", "admin"}:
        if organization is None and "x-organization-id" in request.headers:
            raise InvalidRequestError(
                "X-Organization-ID must be 1 to 128 of A-Z a-z 0-9 . _ - ; leave it out to see everything.",
                param="X-Organization-ID",
            )
        return EVERYTHING if organization is None else Reach(organization)
    if caller.kind == "client" and organization is not None:
        return Reach(organization)
    return Reach(None, _key_of(exchange))


def own_reach_of(request: Request) -> Reach:
    """Give what whoever asks may see of single requests: those that were made with the same key.

    Raises:
        InvalidRequestError: As for the usage.
    """
    reach, exchange = reach_of(request), request.scope["exchange"]
    return reach if exchange.caller.kind in {"anyone", "admin"} else Reach(reach.organization, _key_of(exchange))


def _key_of(exchange: Exchange) -> str:
    if exchange.caller.key_id is None:
        raise TypeError(f"a caller without a key, who would see everything: {exchange.caller}")
    return exchange.caller.key_id


async def answer_in_time(
    question: Callable[[], Awaitable[Answer]], limit_s: float, turns: asyncio.Semaphore | None = None
) -> Answer:
    """Ask the database and wait for it.

    Args:
        turns: How many such questions this process asks at once: a few people with wide ones must not take all
            connections from the entries that are to be written. Waiting for a turn is part of the time.

    Raises:
        LedgerAwayError: It is away, or too slow.
    """
    try:
        with anyio.fail_after(limit_s):
            if turns is None:
                return await question()
            async with turns:
                return await question()
    except TimeoutError:
        raise LedgerAwayError(
            f"The database did not answer within {limit_s:g} s: ask for a shorter time, or try again."
        ) from None
    except OSError:
        # Its message may name an internal address.
        raise LedgerAwayError("The database cannot be read now: try again. Model calls go on meanwhile.") from None


def known_only(request: Request, known: Collection[str]) -> None:
    """Refuse parameters that nobody reads: a misspelt one would answer another question than was asked.

    Raises:
        InvalidRequestError: With the names there are.
    """
    for name in request.query_params:
        if name not in known:
            raise InvalidRequestError(
                f"Unknown parameter {short(name)}. There are: {', '.join(known)}.", param=name[:_LONGEST_SHOWN]
            )


def instant_asked(request: Request, name: str) -> datetime | None:
    """Give a moment that is asked for: a day in UTC, or an instant with its offset. Raises: InvalidRequestError."""
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        at = datetime.fromisoformat(_LOST_PLUS.sub("+", text))
        if at.tzinfo is None and at.time() == time() and len(text) == len("2026-11-01"):
            at = at.replace(tzinfo=UTC)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        pass  # told below, together with a time that has no offset
    raise InvalidRequestError(
        f"`{name}` is {short(text)}: write a day, such as 2026-11-01 (UTC), or an instant with its offset, "
        "such as 2026-11-01T12:00:00Z.",
        param=name,
    )


def short(text: str) -> str:
    """Quote what a client sent, without repeating a megabyte of it."""
    return f"`{text if len(text) <= _LONGEST_SHOWN else f'{text[:_LONGEST_SHOWN]}…'}`"


async def rendered(render: Callable[[], bytes], rows: int, media_type: str = "application/json") -> Response:
    """Answer with what `render` makes of so many rows; many of them not on the event loop."""
    body = render() if rows < _MANY_ROWS else await to_thread.run_sync(render)
    return Response(body, headers={"cache-control": "no-store"}, media_type=media_type)


async def as_json(shown: object, rows: int = 0) -> Response:
    """Answer with JSON."""
    return await rendered(lambda: msgspec.json.encode(shown), rows)
