"""Log lines: one JSON object each (or colours, on a terminal), made on the event loop and written off it."""

import asyncio
import json
import logging
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any, BinaryIO, Literal

import msgspec
import structlog
from msgspec import Struct
from structlog.typing import FilteringBoundLogger
from typing_extensions import override

from llmgateway.telemetry.clean import Clean

LogFormat = Literal["json", "console"]
_FLUSH_AFTER_S = 0.1
_MAX_WAITING_LINES = 20_000
_FAREWELL_S = 2.0
_QUIET_S = 10.0
_MOST_MESSAGES = 1000
_JSON = msgspec.json.Encoder(enc_hook=str)


class LineSink:
    """Takes lines at once and writes them together, in a thread: a reader that stalls holds up no request.

    When more lines wait than fit, new ones are dropped and the loss is said in a line of its own. `dropped_total`
    counts them all.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._waiting: deque[bytes] = deque()  # appending and taking need no lock, whatever thread logs
        self.dropped_total = 0
        self._dropped = 0  # of these, those that no line has told of yet
        self._lock = threading.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._writer: threading.Thread | None = None

    def msg(self, line: bytes) -> None:
        """Take one line without its newline."""
        if len(self._waiting) >= _MAX_WAITING_LINES:
            self._dropped += 1
            self.dropped_total += 1
            return
        self._waiting.append(line)
        if self._timer is None:
            self._schedule()

    debug = info = warning = error = critical = exception = msg

    def flush(self) -> None:
        """Write what waits, now. When nobody takes it any more, it counts as dropped: no request fails for its log."""
        with self._lock:
            lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
            lost, self._dropped = self._dropped, 0
            if not lines and not lost:
                return
            told = [_JSON.encode({"event": "log_lines_dropped", "level": "warning", "count": lost})] if lost else []
            try:
                self._stream.write(b"\n".join([*lines, *told, b""]))
                self._stream.flush()
            except OSError:
                self._dropped += lost + len(lines)
                self.dropped_total += len(lines)

    def close(self) -> None:
        """Write what waits; a reader that takes nothing is given two seconds."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writer is not None:
            self._writer.join(_FAREWELL_S)
            if self._writer.is_alive():
                return  # nobody reads our output any more, and the process must end all the same
        self.flush()

    def _schedule(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        self._timer = loop.call_later(_FLUSH_AFTER_S, self._flush_in_thread)

    def _flush_in_thread(self) -> None:
        if self._writer is not None and self._writer.is_alive():
            self._schedule()  # a reader that stalls must not make writes queue up
            return
        self._timer = None
        # A daemon, so that a reader that has stalled for good does not keep the process alive.
        self._writer = threading.Thread(target=self.flush, name="log", daemon=True)
        self._writer.start()


def build_logger(
    sink: LineSink, *, level: str, log_format: LogFormat, secrets: Iterable[str] = ()
) -> FilteringBoundLogger:
    """Make the logger that is handed to every room. No line of it holds a key.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        secrets: Values that no line may hold, whatever their shape; `hide_secrets` adds those that come later.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    render = _as_json if log_format == "json" else _as_console()
    lazy = structlog.wrap_logger(
        sink,
        processors=[structlog.processors.format_exc_info, Clean(secrets), _stamp, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        context_class=dict,
    )
    # Bound once here: a lazy logger would be bound anew for every line.
    return lazy.bind()  # type: ignore[no-any-return]  # structlog types it by the wrapper class, at run time


def hide_secrets(logger: FilteringBoundLogger, secrets: Iterable[str]) -> None:
    """Keep these out of every line from now on: keys are known once the catalog is read, and after each change."""
    for processor in logger._processors:  # type: ignore[attr-defined]  # noqa: SLF001  structlog has no other way to it
        if isinstance(processor, Clean):
            processor.hide(secrets)


class StdlibLines(logging.Handler):
    """Brings the lines of libraries that use the standard logging into the same stream and format.

    A message is told once in ten seconds, and the next time how often it was repeated: when something is down, every
    request may come by with the same words.

    Args:
        clock: Seconds, from anywhere.
    """

    def __init__(self, logger: FilteringBoundLogger, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._logger = logger
        self._clock = clock
        self._told: dict[tuple[str, int, str], list[float]] = {}  # when it was last told, and how often it came since

    @override
    def emit(self, record: logging.LogRecord) -> None:
        repeated = self._repeated(record)
        if repeated is None:
            return
        try:
            text = record.getMessage()
        except (TypeError, ValueError, KeyError):  # its arguments do not fit: the fault of whoever logs
            text = str(record.msg)
        fields: dict[str, object] = {"logger": record.name}
        if repeated:
            fields["repeated"] = repeated
        if record.exc_info and record.exc_info[1] is not None:
            fields["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))
        # Libraries have levels of their own, in between.
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        self._logger.log(level, text, **fields)

    def _repeated(self, record: logging.LogRecord) -> int | None:
        """Count how often the message came since it was last told; `None` when it is not to be told again yet."""
        key, now = (record.name, record.levelno, str(record.msg)), self._clock()
        told = self._told.get(key)
        if told is not None and now - told[0] < _QUIET_S:
            told[1] += 1
            return None
        if len(self._told) >= _MOST_MESSAGES:
            self._told.clear()  # messages without end, each made of its own words: nothing is repeated
        self._told[key] = [now, 0]
        return 0 if told is None else int(told[1])


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
    # In the order people read a line.
    return {"timestamp": timestamp(), "level": method, "event": event.pop("event", ""), **event}


def timestamp() -> str:
    """Give the time as lines have it, ISO 8601 in UTC with milliseconds."""
    now_ms = time.time_ns() // 1_000_000
    # A format of three digits takes thrice as long.
    return f"{_second(now_ms // 1000)}.{str(1000 + now_ms % 1000)[1:]}Z"


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    """Format a second once: thousands of lines share it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _as_json(_: Any, __: str, event: Mapping[str, Any]) -> bytes:
    try:
        return _JSON.encode(event)
    except UnicodeEncodeError:  # file names may hold bytes that are no text
        return json.dumps(event, default=str).encode()


def _as_console() -> structlog.typing.Processor:
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
    )

    def render(logger: Any, method: str, event: MutableMapping[str, Any]) -> bytes:
        shown = {name: value if name == "exception" else _shown(value) for name, value in event.items()}
        return str(renderer(logger, method, shown)).encode("utf-8", "backslashreplace")

    return render


def _shown(value: Any) -> Any:
    """Keep what a client wrote, such as a path, from steering the terminal."""
    return value.encode("unicode_escape").decode() if isinstance(value, str) and not value.isprintable() else value


def line_writer(logger: FilteringBoundLogger, texts: Sequence[str]) -> Callable[[Struct], None]:
    """Give what writes a line as the logger does, at a quarter of its cost: for the one of every request.

    It takes no exception, and asks for no level: that is its caller's. A line is what its fields are, in their order,
    but for the defaults if it omits them; it has `timestamp`, `level` and `event`.

    Args:
        texts: The fields that hold what others wrote, as text or `None`: only these are looked at for keys.
    """
    _, clean, _, render = logger._processors  # type: ignore[attr-defined]  # noqa: SLF001  structlog has no other way
    sink: LineSink = logger._logger  # type: ignore[attr-defined]  # noqa: SLF001  likewise
    texts_of = attrgetter(*texts)
    is_json, encode = render is _as_json, _JSON.encode

    def write(line: Struct) -> None:
        if is_json and clean.knows(texts_of(line)):
            try:
                sink.msg(encode(line))
            except UnicodeEncodeError:
                sink.msg(render(None, "", msgspec.to_builtins(line)))
        else:
            sink.msg(render(None, "", clean(None, "", msgspec.to_builtins(line))))

    return write


def dropped_lines(logger: FilteringBoundLogger) -> int:
    """Count the lines that nobody took, since the start."""
    sink: LineSink = logger._logger  # type: ignore[attr-defined]  # noqa: SLF001  structlog has no other way to it
    return sink.dropped_total
