"""Log lines: one JSON object each (or colours, on a terminal), made on the event loop and written off it."""

import asyncio
import logging
import sys
import threading
import traceback
from collections.abc import Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, BinaryIO, Literal

import msgspec
import structlog
from structlog.typing import FilteringBoundLogger
from typing_extensions import override

LogFormat = Literal["json", "console"]
_FLUSH_AFTER_S = 0.1
_MAX_WAITING_LINES = 20_000
_JSON = msgspec.json.Encoder(enc_hook=str)


class LineSink:
    """Takes lines at once and writes them together, in a thread: a reader that stalls holds up no request.

    When more lines wait than fit, new ones are dropped and the loss is said in a line of its own.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._waiting: list[bytes] = []
        self._dropped = 0
        self._lock = threading.Lock()
        self._scheduled = False
        self._thread: ThreadPoolExecutor | None = None

    def msg(self, line: bytes) -> None:
        """Take one line without its newline."""
        if len(self._waiting) >= _MAX_WAITING_LINES:
            self._dropped += 1
            return
        self._waiting.append(line)
        if not self._scheduled:
            self._schedule()

    debug = info = warning = error = critical = exception = msg

    def flush(self) -> None:
        """Write what waits, now."""
        with self._lock:
            lines, self._waiting = self._waiting, []
            dropped, self._dropped = self._dropped, 0
            if dropped:
                lines.append(_JSON.encode({"event": "log_lines_dropped", "level": "warning", "count": dropped}))
            if lines:
                self._stream.write(b"\n".join(lines) + b"\n")
                self._stream.flush()

    def close(self) -> None:
        """Write what waits and end the thread."""
        if self._thread is not None:
            self._thread.shutdown(wait=True)
            self._thread = None
        self.flush()

    def _schedule(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        self._scheduled = True
        loop.call_later(_FLUSH_AFTER_S, self._flush_in_thread)

    def _flush_in_thread(self) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="log")
        self._scheduled = False
        self._thread.submit(self.flush)


def build_logger(sink: LineSink, *, level: str, log_format: LogFormat) -> FilteringBoundLogger:
    """Make the logger that is handed to every room.

    Args:
        level: `debug`, `info`, `warning` or `error`.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    render = _as_json if log_format == "json" else _as_console()
    return structlog.wrap_logger(  # type: ignore[no-any-return]  # structlog types it by the wrapper class, at run time
        sink,
        processors=[_stamp, structlog.processors.format_exc_info, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        context_class=dict,
        cache_logger_on_first_use=True,
    )


class StdlibLines(logging.Handler):
    """Brings the lines of libraries that use the standard logging into the same stream and format."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        super().__init__()
        self._logger = logger

    @override
    def emit(self, record: logging.LogRecord) -> None:
        fields: dict[str, object] = {"logger": record.name}
        if record.exc_info and record.exc_info[1] is not None:
            fields["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        self._logger.log(record.levelno, record.getMessage(), **fields)


def take_over_stdlib(logger: FilteringBoundLogger) -> None:
    """Send what libraries warn of to our stream; what they tell besides is of use to their authors only."""
    root = logging.getLogger()
    root.handlers = [StdlibLines(logger)]
    root.setLevel(logging.WARNING)


def format_for(setting: Literal["auto", "json", "console"]) -> LogFormat:
    """Choose the format: `auto` is for people on a terminal, and JSON everywhere else."""
    if setting == "auto":
        return "console" if sys.stdout.isatty() else "json"
    return setting


def standard_sink() -> LineSink:
    """Write to standard output."""
    return LineSink(sys.stdout.buffer)


def _stamp(_: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {"timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": method, **event}


def _as_json(_: Any, __: str, event: Mapping[str, Any]) -> bytes:
    return _JSON.encode(event)


def _as_console() -> structlog.typing.Processor:
    renderer = structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())

    def render(logger: Any, method: str, event: MutableMapping[str, Any]) -> bytes:
        return str(renderer(logger, method, event)).encode()

    return render
