"""How administrators' questions and changes reach the database: in time, and never over somebody else's change."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Protocol, TypeVar

from llmgateway.api.ledger.asking import LIMIT_S, answer_in_time, short
from llmgateway.errors import ConflictError, InvalidRequestError, LimitsAwayError, NotFoundError
from llmgateway.storage.admin.outcomes import OvertakenError, TakenError
from llmgateway.storage.admin.rows import Deed, Page
from llmgateway.stores.base import StoreAwayError

# Told after each change that was written: this process takes it at once, the others as soon as they can.
Changed = Callable[[], Awaitable[None]]

_MOST_TRIES = 5
_LARGEST_PAGE = 100

Answer = TypeVar("Answer")
Row = TypeVar("Row")
Given_contra = TypeVar("Given_contra", contravariant=True)


class Replace(Protocol[Given_contra]):
    """Writes a row in another's place, unless somebody was faster."""

    async def __call__(self, row: Given_contra, deed: Deed, /, *, instead_of: Given_contra | None = None) -> bool: ...


async def in_time(question: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask the database, or change something there.

    Raises:
        LedgerAwayError: It is away, or too slow.
        ConflictError: There is one of that id or name already.
        InvalidRequestError: It cannot keep such a text.
    """
    try:
        return await answer_in_time(question, LIMIT_S)
    except TakenError:
        raise ConflictError(
            "There is one of that id or name already: choose another, or change that one with PATCH.",
            code="already_exists",
        ) from None
    except ValueError as error:
        raise InvalidRequestError(f"It cannot be kept: {error}") from None


async def every_row(read: Callable[[int, int], Awaitable[Page[Row]]]) -> AsyncIterator[Row]:
    """Walk over a whole list."""
    number = 1
    while rows := (await in_time(partial(read, number, _LARGEST_PAGE))).rows:
        for row in rows:
            yield row
        number += 1


async def of_store(question: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask the shared store. Raises: LimitsAwayError."""
    try:
        return await question()
    except StoreAwayError:
        raise LimitsAwayError("The shared store does not answer now: try again.") from None


async def replaced(
    read: Callable[[], Awaitable[Row | None]],
    change: Callable[[Row], tuple[Row, Deed]],
    replace: Replace[Row],
    missing: Callable[[], NotFoundError],
) -> tuple[Row, bool]:
    """Change a row; gives it as it is now, and whether that is another than before.

    Args:
        change: Makes the new row of the one that is there, again when somebody changed it meanwhile.

    Raises:
        NotFoundError: There is no such row.
        ConflictError: Others change it all the time, or its new name is another's.
    """
    for _ in range(_MOST_TRIES):
        row = await in_time(read)
        if row is None:
            raise missing()
        new, deed = change(row)
        if new == row:
            return row, False
        try:
            if await in_time(partial(replace, new, deed, instead_of=row)):
                return new, True
        except OvertakenError:
            continue
    raise ConflictError("Others are changing it as well: read it again, and try again.", code="changed_meanwhile")


async def there(kind: str, subject: str, read: Callable[[str], Awaitable[Row | None]]) -> Row:
    """Read one row. Raises: NotFoundError."""
    row = await in_time(partial(read, subject))
    if row is None:
        raise not_there(kind, subject)
    return row


def not_there(kind: str, subject: str) -> NotFoundError:
    """Say that there is no such thing."""
    return NotFoundError(f"There is no {kind} {short(subject)}. GET /admin/{kind}s lists them.")
