"""How the database is asked where somebody waits for the answer: in time, and with an error that one can act on."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import anyio

from llmgateway.errors import ConflictError, InvalidRequestError, LedgerAwayError
from llmgateway.storage.jobs.rows import RepeatedError

LIMIT_S = 10.0

Answer = TypeVar("Answer")


@contextmanager
def told() -> Iterator[None]:
    """Say what a database that is away means for whoever asks. Raises: LedgerAwayError."""
    try:
        yield
    except TimeoutError:
        raise LedgerAwayError(f"The database did not answer within {LIMIT_S:g} s: try again.") from None
    except OSError:
        # Its message may name an internal address.
        raise LedgerAwayError("The database cannot be reached now: try again. Model calls go on meanwhile.") from None


async def in_time(question: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask the database, or change something there.

    Raises:
        LedgerAwayError: It is away, or too slow.
        ConflictError: The idempotency key was sent with another body.
        InvalidRequestError: It cannot keep such a text.
    """
    with told():
        try:
            with anyio.fail_after(LIMIT_S):
                return await question()
        except RepeatedError:
            raise ConflictError(
                "This Idempotency-Key was used for another body: send the same body again, or a new key.",
                param="Idempotency-Key",
                code="idempotency_conflict",
            ) from None
        except ValueError as error:
            raise InvalidRequestError(f"It cannot be kept: {error}") from None
