"""The audit log as a chain: each row's hash covers the row and the hash of the one before it."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import msgspec

from llmgateway.storage.admin.outcomes import Verdict
from llmgateway.storage.admin.rows import AuditRow, Deed

NOTHING = "0" * 64  # before the first row
_LONGEST = 256  # characters of a text
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


def at_us(moment: datetime) -> int:
    """Count the microseconds since 1970, exactly."""
    return (moment - _EPOCH) // _US


def moment_of(us: int) -> datetime:
    """Read them back."""
    return _EPOCH + us * _US


def cleaned(deed: Deed) -> Deed:
    """Make of a deed what both databases can keep, and give back as it was.

    Raises:
        ValueError: Its details are no JSON.
    """
    organization_id = None if deed.organization_id is None else _clean(deed.organization_id)
    try:
        details = json.loads(_canonical(msgspec.to_builtins(dict(deed.details), str_keys=True)))
    except (TypeError, RecursionError) as error:
        raise ValueError(f"The details of {deed.action} are no JSON: {error}") from error
    return Deed(
        actor=_clean(deed.actor),
        action=_clean(deed.action),
        subject=_clean(deed.subject),
        organization_id=organization_id,
        details=details,
    )


def _clean(text: str) -> str:
    return text.replace("\0", "")[:_LONGEST].encode("utf-8", "replace").decode()


def _canonical(content: Any) -> str:
    # Not msgspec: numbers of any size, and text that is no Unicode, come back as they were.
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def link(seq: int, moment: datetime, deed: Deed, previous: str) -> AuditRow:
    """Make the row that follows on the one with that hash."""
    content = [seq, at_us(moment), deed.actor, deed.action, deed.subject, deed.organization_id, deed.details, previous]
    return AuditRow(
        seq=seq,
        at=moment,
        actor=deed.actor,
        action=deed.action,
        subject=deed.subject,
        organization_id=deed.organization_id,
        details=deed.details,
        previous=previous,
        hash=sha256(_canonical(content).encode()).hexdigest(),
    )


class Check:
    """Follows the chain row by row, up to where it must at least reach.

    Args:
        seq, digest: Of its last row, read before the first one.
    """

    def __init__(self, seq: int, digest: str) -> None:
        self._end = seq
        self._end_hash = digest
        self._previous = NOTHING
        self.seq = 0  # of the last row that was right

    def follow(self, rows: Iterable[AuditRow]) -> Verdict | None:
        """Follow some more rows; answers at the first that is wrong."""
        for row in rows:
            reason = self._wrong(row)
            if reason:
                return Verdict(False, self.seq, self.seq + 1, reason)
            self.seq, self._previous = row.seq, row.hash
        return None

    def _wrong(self, row: AuditRow) -> str:
        if row.seq != self.seq + 1:
            return "the row is missing"
        if row.previous != self._previous:
            return "it does not follow on the row before it"
        deed = Deed(
            actor=row.actor,
            action=row.action,
            subject=row.subject,
            organization_id=row.organization_id,
            details=row.details,
        )
        if link(row.seq, row.at, deed, row.previous).hash != row.hash:
            return "its hash is not that of what it says"
        if row.seq == self._end and row.hash != self._end_hash:
            return "it is not the row that was written as the last one"
        return ""

    def end(self) -> Verdict:
        """Answer when there are no more rows."""
        if self.seq < self._end:
            return Verdict(False, self.seq, self.seq + 1, f"the rows up to {self._end} are missing")
        return Verdict(True, self.seq)
