"""Brings what administrators added to the catalog into the one that is served."""

from typing import Protocol

import anyio
from anyio import to_thread
from structlog.typing import FilteringBoundLogger

from llmgateway.catalog.rows import NO_ROWS, DeploymentFields, Rows, put_together
from llmgateway.catalog.source import CatalogSource
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.admin.rows import ChangeKind, ProviderRow
from llmgateway.storage.admin.sealing import LazySeal, Seal

_PAGE_SIZE = 100
_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0


class Opens(Protocol):
    """Opens what was encrypted; in a thread."""

    def unseal(self, sealed: str) -> str:
        """Raises: ValueError."""
        ...


class CatalogRows:
    """Reads the rows again whenever one of them changed; one of the listeners of `keys.watch.Watch`.

    Args:
        seal: Opens the providers' keys.
    """

    def __init__(
        self, storage: AdminStorage, seal: Seal | LazySeal, source: CatalogSource, logger: FilteringBoundLogger
    ) -> None:
        self._storage = storage
        self._seal = seal
        self._source = source
        self._logger = logger
        self._news = anyio.Event()
        self._unopened: frozenset[str] = frozenset()

    def changed(self, kind: ChangeKind, subject: str) -> None:
        """Read again, when it is of the catalog."""
        if kind in {"provider", "deployment"}:
            self._news.set()

    def everything_changed(self) -> None:
        """Read again: what changed cannot be told."""
        self._news.set()

    async def run(self) -> None:
        """Read when there is news, for ever; cancel to end. What was read last is served while the database is away."""
        pause_s = _FIRST_PAUSE_S
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            try:
                await self.load()
                pause_s = _FIRST_PAUSE_S
            except OSError:
                self._news.set()
                await anyio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def load(self) -> None:
        """Read all rows and hand them to the catalog.

        Raises:
            StorageAwayError: The database cannot answer now.
        """
        # Nothing was ever written: to find that out costs no import of a database library.
        if not await self._storage.changes_after(None):
            self._source.set_rows(NO_ROWS)
            return
        providers, deployments = await self._providers(), await self._deployments()
        fields = await to_thread.run_sync(self._opened, providers)
        self._source.set_rows(Rows(fields, deployments))

    async def _providers(self) -> list[ProviderRow]:
        rows: list[ProviderRow] = []
        number = 1
        while more := (await self._storage.providers(number, _PAGE_SIZE)).rows:
            rows += more
            number += 1
        return rows

    async def _deployments(self) -> list[DeploymentFields]:
        rows: list[DeploymentFields] = []
        number = 1
        while more := (await self._storage.deployments(number, _PAGE_SIZE)).rows:
            rows += [DeploymentFields(row.id, row.model, row.fields) for row in more]
            number += 1
        return rows

    def _opened(self, rows: list[ProviderRow]) -> dict[str, dict[str, object]]:
        """Open the keys; without its own, a provider must not be asked with another."""
        opened: dict[str, dict[str, object]] = {}
        unopened: dict[str, str] = {}
        for row in rows:
            try:
                secret = None if row.sealed_key is None else self._seal.unseal(row.sealed_key)
                opened[row.name] = put_together(row.fields, secret)
            except ValueError as error:
                unopened[row.name] = str(error)
        for name in unopened.keys() - self._unopened:
            self._logger.error("provider_key_unreadable", provider=name, reason=unopened[name], effect="it is left out")
        self._unopened = frozenset(unopened)
        return opened
