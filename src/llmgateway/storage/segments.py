"""The journal's files: each belongs to one process, and to any other as soon as that one is dead.

The lock (`flock`) says whose it is: the system gives it back however its owner ends.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import msgspec
from msgspec import Struct

from llmgateway.storage.entry import LedgerEntry

_SUFFIX = ".jsonl"
_BROKEN = ".broken"
_MOST_ADOPTED = 64  # at a time: each is an open file
# No entry is nearly as long: what is longer has lost its newlines, and must not fill the memory.
_LONGEST_LINE_BYTES = 1024 * 1024
_ZERO = b"\\u0000"  # PostgreSQL's text cannot hold it
_DECODER = msgspec.json.Decoder(LedgerEntry)


class Batch(Struct):
    """Some entries of a segment, in order.

    Args:
        end_bytes: Where the next batch begins.
        broken: Lines that are no entries.
        torn: What the segment's last line began with, when its writer died in the middle of it.
        last: There is no more after it.
    """

    end_bytes: int
    entries: list[LedgerEntry]
    broken: list[bytes]
    torn: bytes = b""
    last: bool = False


class Segment:
    """One file, locked by this process for as long as it is not closed.

    Args:
        since_us: When its oldest entry was made, microseconds since 1970.
        refused_at: How many entries the database had taken when it refused some of this; `None` when it never did.
    """

    __slots__ = ("_file", "path", "refused_at", "shipped_bytes", "since_us", "size_bytes")

    def __init__(self, path: Path, file: int, *, since_us: int, size_bytes: int = 0) -> None:
        self.path = path
        self.since_us = since_us
        self.size_bytes = size_bytes
        self.shipped_bytes = 0
        self.refused_at: int | None = None
        self._file = file

    @property
    def file(self) -> int:
        """Its number, for `os.write`: every write goes to the end."""
        return self._file

    def read(self, most: int) -> Batch:
        """Read on from what was shipped; blocks.

        Raises:
            OSError: The disk gives it no longer.
        """
        with self._from(self.shipped_bytes) as content:
            lines = list(islice(iter(partial(content.readline, _LONGEST_LINE_BYTES), b""), most))
            batch = Batch(content.tell(), [], [])
        batch.last = len(lines) < most or not (lines[-1].endswith(b"\n") or len(lines[-1]) >= _LONGEST_LINE_BYTES)
        text = b"".join(lines)
        try:
            if text.find(_ZERO) < 0:
                # All of them in one step: nearly always none is broken, and each by itself takes twice as long.
                batch.entries = _DECODER.decode_lines(text)
                return batch
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass  # which of them is found out below
        for line in lines:
            _take(line, batch)
        return batch

    def set_aside(self, lines: list[bytes]) -> None:
        """Keep lines that are no entries, or that the database refuses, for a person to look at; blocks.

        Raises:
            OSError: They cannot be written.
        """
        aside = os.open(f"{self.path}{_BROKEN}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(aside, "wb") as file:
            file.writelines(line.rstrip(b"\n") + b"\n" for line in lines)

    def set_aside_whole(self) -> None:
        """Take a file that cannot be read out of the way, and keep it; blocks."""
        with suppress(OSError):
            self.path.rename(f"{self.path}{_BROKEN}")
        self.close()

    def remove(self) -> None:
        """Delete the file, all of which is in the database; blocks."""
        # Before the lock is given back: else another process might take it over in between.
        try:
            self.path.unlink(missing_ok=True)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, 0)  # shipped again and again otherwise
        self.close()

    def close(self) -> None:
        """Give the lock back; the file stays."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    @contextmanager
    def _from(self, start_bytes: int) -> Iterator[BinaryIO]:
        with open(self._file, "rb", closefd=False) as content:
            content.seek(start_bytes)
            yield content


def create(folder: Path, name: str) -> Segment:
    """Start a file that is this process's own.

    Raises:
        OSError: The folder cannot be written, the disk is full, or the name is taken.
    """
    path = folder / f"{name}{_SUFFIX}"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
    try:
        # Another process may see the new file before it is locked, take it for an orphan and delete it.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_nlink == 0:
            raise FileExistsError(f"{path} was taken for one of a dead process")
    except OSError:
        os.close(file)
        raise
    return Segment(path, file, since_us=time.time_ns() // 1000)


def adopt(folder: Path, most: int = _MOST_ADOPTED) -> list[Segment]:
    """Take over what dead processes left, the oldest first; blocks. Those of the living are locked, and stay theirs."""
    found: list[Segment] = []
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        if len(found) >= most:
            break
        segment = _adopt(path)
        if segment is not None:
            found.append(segment)
    return found


def _adopt(path: Path) -> Segment | None:
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND)
    except OSError:  # gone since it was listed, or not ours to read
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        state = os.fstat(file)
    except OSError:  # its process lives
        os.close(file)
        return None
    segment = Segment(path, file, since_us=state.st_mtime_ns // 1000, size_bytes=state.st_size)
    if state.st_nlink == 0 or state.st_size == 0:
        segment.remove()
        return None
    with suppress(OSError):
        if first := segment.read(1).entries:
            segment.since_us = first[0].at_us
    return segment


def _take(line: bytes, batch: Batch) -> None:
    if not line.strip():
        return
    try:
        batch.entries.append(_DECODER.decode(line.replace(_ZERO, b"\\ufffd")))
    except (msgspec.DecodeError, UnicodeDecodeError):
        if line.endswith(b"\n") or len(line) >= _LONGEST_LINE_BYTES:
            batch.broken.append(line)
        else:
            batch.torn = line
