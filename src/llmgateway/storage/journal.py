"""The journal: what was served is on the local disk before its last byte goes out, whatever the database does.

One entry is one line. Those of one turn of the event loop are one write, but for the first of a file, with no buffer
between, before the ends of their answers go out: a killed process loses nothing that a client saw finished.
"""

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import count, islice
from pathlib import Path

import msgspec
from structlog.typing import FilteringBoundLogger

from llmgateway.exchange import Exchange
from llmgateway.ids import new_id
from llmgateway.storage.entry import LedgerEntry, entry_of
from llmgateway.storage.recent import RecentEntries
from llmgateway.storage.segments import Segment, create

_MOST_WAITING = 10_000
_SEGMENT_BYTES = 64 * 1024 * 1024
_AT_ONCE = 100  # lines that waited, written between two requests
_NO_FILE = -1


def _nobody() -> None:
    """Nobody waits for entries."""


class Journal:
    """Writes entries to this process's segment. All of it runs on the event loop.

    What the disk does not take waits in memory, and is tried again with the next entry and the next shipping.

    Args:
        recent: Shown every entry.
        most_waiting: Entries that wait for the disk; what comes on top of them is lost, and counted.
        segment_bytes: How large a segment gets when nobody ships it.

    Raises:
        OSError: The folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        logger: FilteringBoundLogger,
        recent: RecentEntries | None = None,
        most_waiting: int = _MOST_WAITING,
        segment_bytes: int = _SEGMENT_BYTES,
    ) -> None:
        self.folder = folder
        self.journaled = 0
        self.shipped = 0
        self.lost = 0
        self.wake = _nobody  # called when there is something to ship again
        self.closed: deque[Segment] = deque()  # of this process, waiting to be shipped
        self.adopted: deque[Segment] = deque()  # of dead ones
        self._logger = logger
        self._remember = (recent if recent is not None else RecentEntries()).extend
        self._most_waiting = most_waiting
        self._segment_bytes = segment_bytes
        self._names = (f"{boot_id}-{number:06}" for boot_id in [new_id("boot")] for number in count(1))
        self._encode = msgspec.json.Encoder().encode
        self._current: Segment | None = None
        self._file = _NO_FILE
        self._size_bytes = 0
        self._torn = False
        self._waiting: deque[bytes] = deque()  # without their line breaks, as all lines here
        self._failing_since_us: int | None = None
        self._lost_before = 0
        _prove(folder, next(self._names))

    def record(self, exchanges: Sequence[Exchange]) -> None:
        """Write down those that are model calls, in one write; neither raises nor waits."""
        calls = [exchange for exchange in exchanges if exchange.operation is not None]
        try:
            lines = [self._encode(entry_of(call)) for call in calls]
        except Exception as error:  # noqa: BLE001  whatever a provider told: no request fails for its ledger entry
            if len(calls) > 1:
                for call in calls:
                    self.record((call,))
            else:
                self._cannot_be_written(calls[0].id, error)
            return
        if lines:
            self._append(lines)

    def append(self, entry: LedgerEntry) -> None:
        """Write an entry down; neither raises nor waits."""
        try:
            line = self._encode(entry)
        except Exception as error:  # noqa: BLE001  likewise
            self._cannot_be_written(entry.id, error)
            return
        self._append([line])

    def _append(self, lines: Sequence[bytes]) -> None:
        self._remember(lines)
        # There is no file before the first entry of a segment: that is a failed write, too, and costs nothing here.
        left = lines if self._waiting else lines[self._write(lines) :]
        for line in left:
            self._wait(line)
        if left:
            self.write_waiting()
        elif self._size_bytes >= self._segment_bytes:
            self.close_current()

    def write_waiting(self) -> bool:
        """Try the disk again, for as many entries as a moment allows. Returns whether none waits any more."""
        for line in list(islice(self._waiting, _AT_ONCE)):
            if self._file == _NO_FILE and not self._start():
                return False
            if not self._write((line,)):
                return False
            self._waiting.popleft()
        if self._waiting:
            return False
        if self._failing_since_us is not None:
            self._logger.info("journal_written_again", lost=self.lost - self._lost_before)
            self._failing_since_us = None
        return True

    def close_current(self) -> None:
        """Close the segment, so that it can be shipped; the next entry starts a new one."""
        segment = self._current
        if segment is None or self._size_bytes == 0:
            return
        segment.size_bytes = self._size_bytes
        self.closed.append(segment)
        self._current, self._file, self._size_bytes, self._torn = None, _NO_FILE, 0, False

    def forget(self, segment: Segment) -> None:
        """Take a segment that was shipped from the list."""
        (self.closed if segment in self.closed else self.adopted).remove(segment)

    def close(self) -> None:
        """Leave what was not shipped to whoever starts next, or still runs."""
        self.write_waiting()
        current, size_bytes = self._current, self._size_bytes
        self.close_current()
        if current is not None and size_bytes == 0:
            current.remove()
        for segment in (*self.closed, *self.adopted):
            segment.close()
        self.closed.clear()
        self.adopted.clear()
        self.lost += len(self._waiting)
        if self._waiting:
            self._logger.error("journal_entries_lost", lost=len(self._waiting))
            self._waiting.clear()

    @property
    def idle(self) -> bool:
        """Whether there is nothing of this process to ship."""
        return not (self._size_bytes or self.closed or self._waiting)

    @property
    def backlog_bytes(self) -> int:
        """What is not in the database yet."""
        return (
            sum(segment.size_bytes - segment.shipped_bytes for segment in (*self.closed, *self.adopted))
            + self._size_bytes
            + sum(map(len, self._waiting))
        )

    @property
    def backlog_s(self) -> float:
        """How long the oldest entry has been waiting for the database, seconds."""
        oldest_us = min(self._waiting_since_us(), default=None)
        return 0.0 if oldest_us is None else max(0.0, time.time_ns() / 1e9 - oldest_us / 1e6)

    def _waiting_since_us(self) -> Iterator[int]:
        yield from (segment.since_us for segment in (*self.closed, *self.adopted))
        if self._current is not None and self._size_bytes:
            yield self._current.since_us
        if self._failing_since_us is not None:
            yield self._failing_since_us

    def _write(self, lines: Sequence[bytes]) -> int:
        """Write lines; return how many of them are on the disk."""
        text = b"\n".join((*lines, b""))
        try:
            size_bytes = os.write(self._file, b"\n" + text if self._torn else text)
        except OSError as error:
            if self._file != _NO_FILE:
                self._fails(error)
            return 0
        self._size_bytes += size_bytes
        if size_bytes == len(text) + self._torn:
            self._torn = False
            self.journaled += len(lines)
            return len(lines)
        return self._take_back(size_bytes, text[: max(0, size_bytes - self._torn)])

    def _take_back(self, size_bytes: int, begun: bytes) -> int:
        """Cut off what still fitted; where that fails, whole lines stay, and the next write ends the torn one."""
        self._fails(OSError(0, "only a part fitted"))
        try:
            os.ftruncate(self._file, self._size_bytes - size_bytes)
            self._size_bytes -= size_bytes
        except OSError:
            whole = begun.count(b"\n")
            self._torn = not begun.endswith(b"\n")
            self.journaled += whole
            return whole
        return 0

    def _start(self) -> bool:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # a person may have cleaned up
            self._current = create(self.folder, next(self._names))
        except OSError as error:
            self._fails(error)
            return False
        self._file = self._current.file
        self.wake()
        return True

    def _wait(self, line: bytes) -> None:
        if len(self._waiting) >= self._most_waiting:
            self.write_waiting()
        if len(self._waiting) < self._most_waiting:
            self._waiting.append(line)
        else:
            self.lost += 1

    def _fails(self, error: OSError) -> None:
        if self._failing_since_us is None:
            self._failing_since_us = time.time_ns() // 1000
            self._lost_before = self.lost
            self._logger.error("journal_not_written", folder=str(self.folder), reason=error.strerror or str(error))
            self.wake()

    def _cannot_be_written(self, request_id: str, error: Exception) -> None:
        self.lost += 1
        self._logger.error("journal_entry_lost", request_id=request_id, reason=repr(error))


def _prove(folder: Path, name: str) -> None:
    """Make the folder, and show that a file in it can be written and locked.

    Raises:
        OSError: It cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        proof = create(folder, name)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            error.errno,
            f"{folder}: the usage ledger's journal must be written here, and cannot be ({reason}): "
            "let this user write it, or set another LLMGATEWAY_DATA_DIR",
        ) from error
    proof.remove()
