"""How a question or a change can end besides well: values and errors that need no database library."""

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct

from llmgateway.storage.admin.rows import Change


class TakenError(ValueError):
    """There is another of that name or id already."""


class OvertakenError(RuntimeError):
    """Somebody else changed it meanwhile: read it again, and decide again."""


class ChangesGoneError(LookupError):
    """Changes after that number are no longer known, or another database is there: read everything again."""


class Verdict(Struct, frozen=True):
    """Whether the audit log is what was written.

    Args:
        rows: How many were found right.
        first_bad_seq: The first row that is wrong or missing; `None` when all are right.
        reason: What is wrong with it; empty when nothing is.
    """

    ok: bool
    rows: int
    first_bad_seq: int | None = None
    reason: str = ""


def following(seq: int | None, rows: Iterable[Sequence[Any]]) -> list[Change]:
    """Make the changes after one of the rows from that one on, which have no gaps.

    Args:
        seq: The one that the reader knows: it is among the rows unless it is long gone; 0 is before the first.

    Raises:
        ChangesGoneError: It is gone, or was never there.
    """
    changes = [Change(*row) for row in rows]
    if seq is None or (seq == 0 and not changes):
        return changes
    if not changes or changes[0].seq != max(1, seq):
        raise ChangesGoneError(f"The changes after {seq} are no longer known")
    return changes if seq == 0 else changes[1:]
