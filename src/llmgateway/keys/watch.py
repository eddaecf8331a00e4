"""Hears what administrators changed, in whatever process, and tells whoever remembers something of it."""

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from llmgateway.storage.admin.outcomes import ChangesGoneError
from llmgateway.storage.admin.rows import Change, ChangeKind
from llmgateway.stores.base import Bell

BELL = "changes"
EVERY_S = 1.0
# A failure is told of once it has lasted: at a start the database takes a moment to open.
_TELL_AFTER_S = 5.0


class Changes(Protocol):
    """Where each change has its line, in the order of the commits."""

    async def changes_after(self, seq: int | None) -> Sequence[Change]:
        """Read what came after a number; for `None` the newest alone, to start from.

        Raises:
            OSError: They cannot be read now.
            ChangesGoneError: Some are no longer known.
        """
        ...


class Listener(Protocol):
    """Whoever remembers what can change."""

    def changed(self, kind: ChangeKind, subject: str) -> None:
        """Forget what is known of it. Never waits, never raises."""
        ...

    def everything_changed(self) -> None:
        """Forget all: what changed cannot be told. Never waits, never raises."""
        ...


class Watch:
    """Looks every second, and at once when the bell rings.

    Args:
        listeners: Told of each change, in this order.
    """

    def __init__(
        self,
        changes: Changes,
        bell: Bell,
        listeners: Sequence[Listener],
        logger: FilteringBoundLogger,
        *,
        every_s: float = EVERY_S,
        tell_after_s: float = _TELL_AFTER_S,
    ) -> None:
        self._changes = changes
        self._bell = bell
        self._listeners = tuple(listeners)
        self._logger = logger
        self._every_s = every_s
        self._tell_after_s = tell_after_s
        self._seq: int | None = None
        self._heard_at = time.perf_counter()
        self._told = False
        self._turn = asyncio.Lock()

    async def run(self) -> None:
        """Look for ever; cancel to end."""
        while True:
            await self.look()
            await self._bell.wait(BELL, self._every_s)

    async def look(self) -> None:
        """Look once; that it failed is told in the log, and what is known goes on until the next look."""
        try:
            async with self._turn:
                await self._look()
        except OSError as error:
            self._away(type(error).__name__)
            return
        except Exception:  # whatever it is: without this loop a revoked key would be let in for ever
            if not self._told:
                self._told = True
                self._logger.exception("changes_unreadable", effect="every key is read again")
            self._seq = None
            self._tell_everything()
            return
        self._heard_at = time.perf_counter()
        if self._told:
            self._told = False
            self._logger.info("changes_heard_again")

    async def _look(self) -> None:
        if self._seq is None:
            newest = await self._changes.changes_after(None)
            self._seq = newest[-1].seq if newest else 0
            # What was read before this number was known may be older than it.
            self._tell_everything()
            return
        try:
            changes = await self._changes.changes_after(self._seq)
        except ChangesGoneError:
            self._seq = None
            await self._look()
            return
        for change in changes:
            self._seq = change.seq
            for listener in self._listeners:
                listener.changed(change.kind, change.subject)

    def _tell_everything(self) -> None:
        for listener in self._listeners:
            listener.everything_changed()

    def _away(self, why: str) -> None:
        if not self._told and time.perf_counter() - self._heard_at >= self._tell_after_s:
            self._told = True
            self._logger.warning("changes_unheard", reason=why, effect="keys hold as they were last read")
