"""Where the database is, and what SQLite's file tells the standard library alone.

A gateway that nobody asks for its ledger, and that has nothing to write, never imports SQLAlchemy (22 MB, 0.4 s).
"""

import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote

from llmgateway.storage.admin.outcomes import following
from llmgateway.storage.admin.rows import Change
from llmgateway.storage.migrations.revisions import VERSION_TABLE, known
from llmgateway.storage.queries import StorageAwayError

JobsQuestion = Literal["live", "hooks", "leaving"]

_SCHEME = re.compile(r"^(sqlite|postgres(?:ql)?)(?:\+\w+)?://")
_OPEN_LIMIT_S = 10.0  # after a crash another process may be reading the log of writes back
_PING_LIMIT_S = 0.5
_COARSEST_NS = 3_000_000_000
# SQLite, result codes: SQLITE_READONLY, SQLITE_IOERR, SQLITE_FULL; further bits say more of the same.
_UNWRITTEN, _PRIMARY_CODE = frozenset({8, 10, 13}), 0xFF


@dataclass(frozen=True, slots=True)
class Address:
    """Where the database is: one of the two is set."""

    path: Path | None = None
    dsn: str | None = None


def locate(url: str | None, folder: Path) -> Address:
    """Read the setting.

    Args:
        url: `None` and one without a path are the file `llmgateway.db` in `folder`.

    Raises:
        ValueError: Neither SQLite nor PostgreSQL, or SQLite in memory.
    """
    usual = Address(path=folder / "llmgateway.db")
    if url is None:
        return usual
    found = _SCHEME.match(url)
    if found is None:
        raise ValueError("The database's URL must begin with sqlite:// or postgresql://")
    rest = url[found.end() :]
    if found[1] != "sqlite":
        return Address(dsn=f"postgresql://{rest}")
    # As SQLAlchemy reads it: after the slash that ends the host, so that four slashes make an absolute path.
    name = unquote(rest.partition("?")[0].removeprefix("/"))
    if name == ":memory:":
        raise ValueError("An SQLite database in memory keeps nothing: name a file, such as sqlite:///llmgateway.db")
    return Address(path=Path(name)) if name else usual


def reason(error: Exception) -> str:
    """Say why the database cannot be asked: without the statement, which holds what clients sent."""
    origin = getattr(error, "orig", None) or error
    return f"{type(origin).__name__}: {' '.join(str(origin).split())[:300]}"


def refuses_writes(error: Exception) -> bool:
    """Tell whether the database may well be read: its disk is full or broken, or it may not be written to."""
    origin = getattr(error, "orig", None) or error
    if (code := getattr(origin, "sqlite_errorcode", None)) is not None:
        return code & _PRIMARY_CODE in _UNWRITTEN
    # PostgreSQL: disk_full, read_only_sql_transaction.
    return getattr(origin, "sqlstate", None) in {"53100", "25006"}


def make_file(path: Path) -> None:
    """Make the file for its owner alone; SQLite's files beside it get the same mode.

    Raises:
        StorageAwayError: It cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # One that is there is never opened here: closing it would drop the locks that SQLite holds in this process.
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise StorageAwayError(
            f"The SQLite database {path} cannot be written ({error.strerror}): "
            "let this user write it, or set another folder or database"
        ) from error


def revision_in(path: Path) -> str | None:
    """Read which step the file is at, and make it when it is not there; `None` is before the first.

    Raises:
        DatabaseNewerError: At one that this program does not know.
        StorageAwayError: It cannot be written, or not be read.
    """
    make_file(path)
    if not path.stat().st_size:
        # Whoever touches it first sets its mode, alone: that is for whoever migrates, under the lock.
        return None
    if not _ask(path, _OPEN_LIMIT_S, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", VERSION_TABLE):
        return None
    rows = _ask(path, _OPEN_LIMIT_S, f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608  a constant
    return known(rows[0][0] if rows else None)


def ping(path: Path) -> None:
    """Ask the file for nothing.

    Raises:
        StorageAwayError: It cannot be read.
    """
    _ask(path, _PING_LIMIT_S, "PRAGMA schema_version")


def holds_before(path: Path, at_us: int) -> bool:
    """Tell whether the ledger has an entry from before a moment.

    Raises:
        StorageAwayError: It cannot be read.
    """
    return bool(_ask(path, _OPEN_LIMIT_S, "SELECT 1 FROM ledger WHERE at_us < ? LIMIT 1", at_us))


# Each costs a look at an index that has few rows or none.
_JOBS: Mapping[JobsQuestion, str] = {
    "live": "SELECT 1 FROM jobs WHERE status = 'queued' UNION ALL "
    "SELECT 1 FROM jobs WHERE lease_until_us IS NOT NULL LIMIT 1",
    "hooks": "SELECT 1 FROM jobs WHERE hook_at_us IS NOT NULL LIMIT 1",
    "leaving": "SELECT 1 FROM jobs WHERE expires_at_us <= ? UNION ALL "
    "SELECT 1 FROM jobs WHERE repeats IS NOT NULL AND created_at_us < ? LIMIT 1",
}


def holds_jobs(path: Path, which: JobsQuestion, *values: int) -> bool:
    """Tell whether there are jobs that wait or run, that have a webhook to send, or whose time is over.

    Args:
        values: For the last of the three: microseconds up to which a job, and an idempotency key, have had their time.

    Raises:
        StorageAwayError: It cannot be read.
    """
    return bool(_ask(path, _OPEN_LIMIT_S, _JOBS[which], *values))


def mark_of(path: Path) -> tuple[int, ...] | None:
    """Tell one state of the file from every other, without opening it; `None` while it may be in the middle of one.

    SQLite writes to the file or to the log beside it. A file system whose clock is coarse gives two writes one time,
    so that the time of a write means something only once it is past.
    """
    mark: list[int] = []
    for one in (path, path.with_name(f"{path.name}-wal")):
        try:
            state = one.stat()
        except FileNotFoundError:
            continue
        except OSError:
            return None
        if state.st_mtime_ns > time.time_ns() - _COARSEST_NS:
            return None
        mark += (state.st_ino, state.st_size, state.st_mtime_ns)
    return tuple(mark)


def changes_in(path: Path, seq: int | None) -> list[Change]:
    """Read the changes after one, or the newest alone; before the first start there are none.

    Raises:
        ChangesGoneError: Some of them are no longer known.
        StorageAwayError: It cannot be read.
    """
    which, values = ("ORDER BY seq DESC LIMIT 1", ()) if seq is None else ("WHERE seq >= ? ORDER BY seq", (seq,))
    try:
        rows = _ask(path, _OPEN_LIMIT_S, f"SELECT seq, kind, subject FROM changes {which}", *values)  # noqa: S608  constants
    except StorageAwayError:
        # To look for the table beforehand would double the price, every second.
        if _ask(path, _OPEN_LIMIT_S, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'changes'"):
            raise
        return []
    return following(seq, rows)


def _ask(path: Path, limit_s: float, question: str, *values: Any) -> list[Any]:
    import sqlite3  # noqa: PLC0415  1 MB that PostgreSQL has no use for

    try:
        # To be written, though nothing is: the last one that may write also takes away SQLite's files beside it.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=limit_s)) as connection:
            connection.execute("PRAGMA query_only = ON")
            return connection.execute(question, values).fetchall()
    except sqlite3.Error as error:
        raise StorageAwayError(reason(error)) from error


@contextmanager
def file_turn(path: Path, name: str) -> Iterator[bool]:
    """Take a turn that one process has at a time, by a lock beside the file; false when another has it.

    Raises:
        StorageAwayError: The lock's file cannot be made.
    """
    beside = path.with_name(f"{path.name}.{name}.lock")
    try:
        lock = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageAwayError(reason(error)) from error
    try:
        yield _locked(lock)
    finally:
        os.close(lock)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
