"""The catalog that is served right now, and its file watched for changes."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio
from anyio import to_thread

from llmgateway.catalog.building.yaml_text import hide_variables, variables_in
from llmgateway.catalog.load import CatalogError, load
from llmgateway.catalog.rows import NO_ROWS, Rows
from llmgateway.catalog.snapshot import Catalog

_Stamp = tuple[int, int, int]


class Report(Protocol):
    """Where a change is told: an event's name and its fields."""

    def __call__(self, event: str, /, **fields: object) -> object: ...


class CatalogSource:
    """Holds the catalog in `current`; a faulty new file leaves the old one serving, which rows still join.

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
        self._woken = anyio.Event()
        self._stamp = _stamp(path)
        self._had_file = self._stamp is not None
        self._rows = self._served_rows = NO_ROWS
        self._rows_read = False
        self.whole = False  # once the first rows are served: before that, models that administrators added are unknown
        self._text = _read_text(path, required=False)  # as it was when it was last right
        self.current: Catalog = self._made(self._text)
        self.fault: str | None = None
        self.reloads = 0
        self.failed_reloads = 0

    def request_reload(self) -> None:
        """Reload at the next look even if the file seems unchanged; safe to call from a signal's function."""
        self._wanted = True

    def set_rows(self, rows: Rows) -> None:
        """Serve these rows beside the file, as soon as `watch` has made the catalog of them."""
        self._rows_read = True
        if rows != self._rows:
            self._rows = rows
            self._woken.set()
        elif not self.whole:
            self._woken.set()

    def preview(self, text: str | None) -> Catalog:
        """Make the catalog that another file would be, with the environment and rows of now, and serve it not.

        Raises:
            CatalogError: With every fault of the text.
        """
        return load(text, self._environ, folder=self._path.parent, rows=self._rows)

    def hiding(self, text: str) -> Callable[[str], str]:
        """Give what puts `${NAME}` in the place of the environment's values that a text asked for."""
        return partial(hide_variables, variables_in(text, self._environ))

    async def watch(self) -> None:
        """Look at the file for ever; cancel to end."""
        await to_thread.run_sync(self.current.warm)
        while True:
            with anyio.move_on_after(self._poll_s):
                await self._woken.wait()
            self._woken = anyio.Event()
            await self.look()

    async def look(self) -> None:
        """Look once: reload when it was requested, or the file or the rows are others."""
        stamp = await to_thread.run_sync(_stamp, self._path)
        if self._wanted or stamp != self._stamp:
            self._wanted = False
            self._stamp = stamp
            self._had_file = self._had_file or stamp is not None
            await self._reload()
        if self._rows is not self._served_rows:
            # Also while the file is faulty: what administrators take away must go.
            await self._serve(self._text)
        self.whole = self.whole or self._rows_read

    async def _reload(self) -> None:
        try:
            text = await to_thread.run_sync(partial(_read_text, self._path, required=self._had_file))
            await self._serve(text)
        except CatalogError as error:
            self.failed_reloads += 1
            self.fault = str(error)
            self._report("catalog_reload_failed", faults=list(error.faults), serving=self.current.version)
            return
        self._text = text
        self.fault = None

    async def _serve(self, text: str | None) -> None:
        rows, before = self._rows, self.current.warnings
        catalog = await to_thread.run_sync(self._warmed, text)
        self.reloads += 1
        self.current, self._served_rows = catalog, rows
        self._report("catalog_reloaded", version=catalog.version, models=len(catalog.models))
        for warning in catalog.warnings:
            if warning not in before:
                self._report("catalog_warning", warning=warning)

    def _warmed(self, text: str | None) -> Catalog:
        catalog = self._made(text)
        catalog.warm()
        return catalog

    def _made(self, text: str | None) -> Catalog:
        return load(text, self._environ, filename=str(self._path), rows=self._rows)


def _read_text(path: Path, *, required: bool) -> str | None:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        if required:
            raise CatalogError([f"{path}: there is no such file, or no longer; put it there"]) from error
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError([f"{path}: cannot be read ({error}); it must be a readable UTF-8 file"]) from error


def read_catalog(path: Path, environ: Mapping[str, str], *, required: bool = False) -> Catalog:
    """Load the catalog from its file; without a file from the environment alone, unless it is `required`.

    Raises:
        CatalogError: The file is wrong, cannot be read, or is required and not there.
    """
    return load(_read_text(path, required=required), environ, filename=str(path))


def _stamp(path: Path) -> _Stamp | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
