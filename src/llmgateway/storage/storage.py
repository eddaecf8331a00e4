"""The ledger's database for the rest of the program: opened in the background, away at times, and asked in plain words.

Nothing heavy is imported before a question needs it, and that happens in a thread. SQLite's file is opened without.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

import anyio
from anyio import to_thread
from structlog.typing import FilteringBoundLogger

from llmgateway.storage.address import (
    Address,
    file_turn,
    holds_before,
    locate,
    ping,
    reason,
    refuses_writes,
    revision_in,
)
from llmgateway.storage.entry import LedgerEntry
from llmgateway.storage.migrations.apart import upgrade_apart
from llmgateway.storage.migrations.revisions import HEAD
from llmgateway.storage.queries import Costs, Group, Performance, StorageAwayError, Trend, UsageTotals

if TYPE_CHECKING:
    from llmgateway.storage.database import Database

__all__ = ["Storage", "StorageAwayError"]

_AWAY = "away, entries wait in the journal"
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_PING_LIMIT_S = 0.7  # a readiness check has a second

Answer = TypeVar("Answer")


def _nothing() -> None:
    """Nobody wants to know."""


class Storage:
    """One database of this process. Every question raises `StorageAwayError` when the database cannot answer now.

    Args:
        url: Of SQLite or PostgreSQL; `None` is SQLite in `folder`.
        loaded: Told once, on the event loop, after SQLAlchemy was imported: many objects that will stay.
        opened: Set once the database was reached and has its tables.
        up: Whether the last that was asked of it was answered.
    """

    def __init__(
        self, url: str | None, folder: Path, *, logger: FilteringBoundLogger, loaded: Callable[[], None] = _nothing
    ) -> None:
        self._url = url
        self._folder = folder
        self._logger = logger
        self._loaded: Callable[[], None] | None = loaded
        self._address: Address | None = None  # once it was reached
        self._database: Database | None = None  # for SQLite, once it was asked
        self._making = anyio.Lock()
        self._told_away = False
        self._is_full = False
        self.opened = anyio.Event()
        self.up = False

    async def open(self) -> None:
        """Connect and migrate, again and again until it is done; cancel to give up.

        A database that must not be opened, being newer than this program, is waited for as well: calls do not need it.
        """
        pause_s = _FIRST_PAUSE_S
        while not self.opened.is_set():
            try:
                self._address = await self._reach()
            except (StorageAwayError, RuntimeError, ValueError) as error:
                self._away(str(error))
                await anyio.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            else:
                self._back()
                self.opened.set()

    async def _reach(self) -> Address:
        address = locate(self._url, self._folder)
        if address.path is None:
            await self._load()
            self._database = await _connect(address)
        elif await to_thread.run_sync(revision_in, address.path, abandon_on_cancel=True) != HEAD:
            await upgrade_apart(address)
        return address

    async def check(self) -> str | bool:
        """Answer readiness: a database that went away keeps no call from being answered."""
        if self._address is None:
            return False
        try:
            with anyio.fail_after(_PING_LIMIT_S):
                if (path := self._unasked()) is not None:
                    await self._look(ping, path)
                else:
                    await self.ask(lambda database: database.ping())
        except OSError:
            return _AWAY
        return True

    async def add(self, entries: Sequence[LedgerEntry]) -> None:
        """Write entries down, each id once, however often it comes; one that no database can keep is logged instead."""
        await self.ask(lambda database: _ledger().insert(database, entries, self._refused))

    async def find(
        self, request_id: str, *, organization_id: str | None = None, key_id: str | None = None
    ) -> LedgerEntry | None:
        """Look an entry up by our own id, else the newest with the client's."""
        return await self.ask(lambda database: _ledger().find(database, request_id, organization_id, key_id))

    async def usage(
        self,
        start: datetime,
        end: datetime,
        groups: Sequence[Group],
        *,
        organization_id: str | None = None,
        key_id: str | None = None,
    ) -> list[UsageTotals]:
        """Read the totals from `start` up to before `end`; without groups one row.

        Raises:
            TooManyGroupsError: More than `MOST_GROUPS`.
        """
        return await self.ask(
            lambda database: _reports().usage(database, start, end, groups, organization_id, key_id=key_id)
        )

    async def performance(
        self, start: datetime, *, slow_s: float, count: int = 20, organization_id: str | None = None
    ) -> Performance:
        """Read the slowest requests, of those that took `slow_s` or longer, and how each account served."""
        return await self.ask(lambda database: _reports().performance(database, start, slow_s, count, organization_id))

    async def trends(
        self, hours: int, *, now: datetime | None = None, organization_id: str | None = None
    ) -> list[Trend]:
        """Read the hours up to now, the current one the last of them; those without requests are not there."""
        this_hour = (now or datetime.now(UTC)).replace(minute=0, second=0, microsecond=0)
        start = this_hour - timedelta(hours=hours - 1)
        return await self.ask(lambda database: _reports().trends(database, start, organization_id))

    async def costs(self, start: datetime, *, count: int = 20, organization_id: str | None = None) -> Costs:
        """Read who and what the money went to, `count` of each."""
        return await self.ask(lambda database: _reports().costs(database, start, count, organization_id))

    async def delete_before(self, moment: datetime, batch: int = 5000) -> int:
        """Delete the oldest entries from before a moment, `batch` at most; returns how many."""
        at_us = int(moment.timestamp() * 1_000_000)
        if (path := self._unasked()) is not None and not await self._look(holds_before, path, at_us):
            return 0
        return await self.ask(lambda database: _ledger().delete_before(database, at_us, batch))

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[bool]:
        """Take a turn that one process has at a time; false when another has it."""
        if self._address is None:
            raise _not_reached()
        if self._address.path is not None:
            with file_turn(self._address.path, name) as mine:
                yield mine
            return
        taken = await self.ask(lambda database: _turn(database, name))
        mine = await self.ask(lambda _: taken.__aenter__())
        try:
            yield mine
        finally:
            await self.ask(lambda _: taken.__aexit__(None, None, None))

    async def close(self) -> None:
        """Close the connections; `open` has ended."""
        database, self._database, self._address = self._database, None, None
        self.up = False
        if database is not None:
            await database.close()

    def _unasked(self) -> Path | None:
        """Name SQLite's file as long as a look at it is enough, because nothing has needed more."""
        return self._address.path if self._address is not None and self._database is None else None

    async def _look(self, question: Callable[..., Answer], path: Path, *values: object) -> Answer:
        try:
            answer = await to_thread.run_sync(question, path, *values, abandon_on_cancel=True)
        except StorageAwayError as error:
            self._away(str(error))
            raise
        self._back()
        return answer

    async def glance(
        self,
        look: Callable[..., Answer],
        question: Callable[["Database"], Awaitable[Answer]],
        *values: object,
    ) -> Answer:
        """Look at SQLite's file as long as nothing needed more; ask the database otherwise.

        Args:
            look: Called in a thread, with the file's path and `values`.
        """
        if (path := self._unasked()) is not None:
            return await self._look(look, path, *values)
        return await self.ask(question)

    async def ask(self, question: Callable[["Database"], Awaitable[Answer]]) -> Answer:
        """Ask the database, which imports what it takes.

        Raises:
            StorageAwayError: It cannot answer now.
        """
        database = self._database or await self._open_file()
        done = database.writes.done
        try:
            answer = await question(database)
        except TimeoutError as error:
            # Long questions are no sign that short ones are not answered.
            raise StorageAwayError("The database took too long") from error
        except database.failures as error:
            why = reason(error)
            self._away(why, is_full=refuses_writes(error))
            raise StorageAwayError(why) from error
        self._back(wrote=database.writes.done > done)
        return answer

    async def _open_file(self) -> "Database":
        """Make the engine for SQLite's file, at the first question; those that come meanwhile wait for it."""
        async with self._making:
            if self._database is not None:
                return self._database
            if self._address is None:
                raise _not_reached()
            await self._load()
            try:
                self._database = await to_thread.run_sync(_open_engine, self._address)
            except StorageAwayError as error:
                self._away(str(error))
                raise
            return self._database

    async def _load(self) -> None:
        await to_thread.run_sync(_import)
        loaded, self._loaded = self._loaded, None
        if loaded is not None:
            loaded()

    @property
    def is_away(self) -> bool:
        """Whether it is away, or its disk is full, by all that is known: then it can perhaps be read."""
        return self._told_away

    def _away(self, why: str, *, is_full: bool = False) -> None:
        self.up = False
        self._is_full = self._is_full or is_full
        if not self._told_away:
            self._told_away = True
            self._logger.warning("database_away", reason=why, effect="usage waits in the journal, and jobs wait")

    def _back(self, *, wrote: bool = False) -> None:
        self.up = True
        # A full disk can be read: each read would tell that it is back, and each write that it is away.
        if self._told_away and (wrote or not self._is_full):
            self._told_away = self._is_full = False
            self._logger.info("database_back")

    def _refused(self, entry_id: str, kind: str) -> None:
        self._logger.error("ledger_entry_refused", request_id=entry_id, error=kind)


def _not_reached() -> StorageAwayError:
    return StorageAwayError("The database was not reached yet")


def _import() -> None:
    from llmgateway.storage import database, ledger, reports  # noqa: F401, PLC0415  half a second and 22 MB
    from llmgateway.storage.migrations import upgrade  # noqa: F401, PLC0415


# What follows is imported by then.


async def _connect(address: Address) -> "Database":
    from llmgateway.storage.migrations.upgrade import connect  # noqa: PLC0415

    return await connect(address)


def _open_engine(address: Address) -> "Database":
    from llmgateway.storage.database import open_engine  # noqa: PLC0415

    return open_engine(address)


async def _turn(database: "Database", name: str) -> AbstractAsyncContextManager[bool]:
    from llmgateway.storage.database import turn  # noqa: PLC0415

    return turn(database, name)


def _ledger() -> ModuleType:
    from llmgateway.storage import ledger  # noqa: PLC0415

    return ledger


def _reports() -> ModuleType:
    from llmgateway.storage import reports  # noqa: PLC0415

    return reports
