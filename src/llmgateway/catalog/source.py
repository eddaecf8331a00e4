"""The catalog that is served right now, and its file watched for changes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import anyio
from anyio import to_thread

from llmgateway.catalog.load import CatalogError, load
from llmgateway.catalog.snapshot import Catalog

_Stamp = tuple[int, int, int]


class Report(Protocol):
    """Where a change is told: an event's name and its fields."""

    def __call__(self, event: str, /, **fields: object) -> object: ...


class CatalogSource:
    """Holds the catalog in `current`; a faulty new file leaves the old one serving.

    Args:
        path: The file; that it is not there at the start means no file.
        environ: The process's environment, as it stays.
        report: Told of every reload, good or bad.
        poll_s: Seconds between two looks at the file.

    Raises:
        CatalogError: The file is wrong at the start.
    """

    def __init__(self, path: Path, environ: Mapping[str, str], report: Report, *, poll_s: float = 0.5) -> None:
        self._path = path
        self._environ = environ
        self._report = report
        self._poll_s = poll_s
        self._wanted = False
        self._stamp = _stamp(path)
        self._had_file = self._stamp is not None
        self.current: Catalog = read_catalog(path, environ, required=False)
        self.fault: str | None = None
        self.reloads = 0
        self.failed_reloads = 0

    def request_reload(self) -> None:
        """Reload at the next look even if the file seems unchanged; safe to call from a signal's function."""
        self._wanted = True

    async def watch(self) -> None:
        """Look at the file for ever; cancel to end."""
        await to_thread.run_sync(self.current.warm)
        while True:
            await anyio.sleep(self._poll_s)
            await self.look()

    async def look(self) -> None:
        """Look once: reload when it was requested or the file is another."""
        stamp = await to_thread.run_sync(_stamp, self._path)
        if self._wanted or stamp != self._stamp:
            self._wanted = False
            self._stamp = stamp
            self._had_file = self._had_file or stamp is not None
            await self._reload()

    async def _reload(self) -> None:
        try:
            catalog = await to_thread.run_sync(self._read_warm)
        except CatalogError as error:
            self.failed_reloads += 1
            self.fault = str(error)
            self._report("catalog_reload_failed", faults=list(error.faults), serving=self.current.version)
            return
        self.reloads += 1
        self.fault = None
        self.current = catalog
        self._report("catalog_reloaded", version=catalog.version, models=len(catalog.models))

    def _read_warm(self) -> Catalog:
        catalog = read_catalog(self._path, self._environ, required=self._had_file)
        catalog.warm()
        return catalog


def read_catalog(path: Path, environ: Mapping[str, str], *, required: bool = False) -> Catalog:
    """Load the catalog from its file; without a file from the environment alone, unless it is `required`.

    Raises:
        CatalogError: The file is wrong, cannot be read, or is required and not there.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError as error:
        if required:
            raise CatalogError([f"{path}: the file is gone; put it back"]) from error
        return load(None, environ)
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError([f"{path}: cannot be read ({error}); it must be a readable UTF-8 file"]) from error
    return load(text, environ, filename=str(path))


def _stamp(path: Path) -> _Stamp | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
