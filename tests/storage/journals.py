"""What the tests of the journal share: entries, a log to look at, and a database that fails as it is told."""

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger

from llmgateway.ids import new_id
from llmgateway.storage.entry import AttemptEntry, LedgerEntry
from llmgateway.storage.journal import Journal
from llmgateway.storage.queries import StorageAwayError


class Log:
    """A logger that keeps its lines."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        logger: FilteringBoundLogger = structlog.wrap_logger(
            structlog.WriteLogger(self._stream),
            processors=[structlog.processors.JSONRenderer()],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        )
        self.logger = logger

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]

    @property
    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]


class Database:
    """Takes entries, as often as they come; `fault` is asked before each time and raises what it likes."""

    def __init__(self) -> None:
        self.taken: list[LedgerEntry] = []
        self.times = 0
        self.fault: Callable[[Sequence[LedgerEntry]], None] = lambda _: None

    async def add(self, entries: Sequence[LedgerEntry]) -> None:
        self.times += 1
        self.fault(entries)
        self.taken += entries

    @property
    def ids(self) -> list[str]:
        return [entry.id for entry in self.taken]

    def away(self) -> None:
        def fail(_: Sequence[LedgerEntry]) -> None:
            raise StorageAwayError("nobody answers")

        self.fault = fail

    def back(self) -> None:
        self.fault = lambda _: None


def entry(number: int = 0, **fields: Any) -> LedgerEntry:
    attempt = AttemptEntry("main", "gpt-4o", 0.1, 12.5, "ok", 200)
    made = LedgerEntry(
        new_id("req"), 1_790_000_000_000_000 + number, "chat", "fast", 200, 12.5, 0.2, attempts=[attempt]
    )
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def journal_in(folder: Path, log: Log | None = None, **options: Any) -> Journal:
    return Journal(folder, logger=(log or Log()).logger, **options)


def files(folder: Path, suffix: str = ".jsonl") -> list[Path]:
    return sorted(folder.glob(f"*{suffix}"))


def lines_of(folder: Path) -> list[bytes]:
    return [line for path in files(folder) for line in path.read_bytes().splitlines()]
