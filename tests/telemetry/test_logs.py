import asyncio
import contextlib
import io
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.typing import FilteringBoundLogger
from typing_extensions import override

from llmgateway.telemetry.logs import (
    LineSink,
    LogFormat,
    StdlibLines,
    build_logger,
    format_for,
    hide_secrets,
    standard_sink,
    take_over_stdlib,
)


class Kept:
    """A logger whose lines stay in memory."""

    def __init__(self, log_format: LogFormat = "json", level: str = "debug", secrets: Sequence[str] = ()) -> None:
        self._stream = io.BytesIO()
        self.sink = LineSink(self._stream)
        self.logger: FilteringBoundLogger = build_logger(self.sink, level=level, log_format=log_format, secrets=secrets)

    @property
    def text(self) -> str:
        self.sink.flush()
        return self._stream.getvalue().decode()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.split("\n")[:-1]]


class Pipe:
    """A pipe that nobody reads until `drain`."""

    def __init__(self) -> None:
        self._reading, writing = os.pipe()
        self.writer: BinaryIO = os.fdopen(writing, "wb", buffering=0)
        self._read: list[bytes] = []

    def drain(self) -> None:
        """Read until the other end is closed."""
        while piece := os.read(self._reading, 1 << 20):
            self._read.append(piece)

    @property
    def lines(self) -> list[bytes]:
        return b"".join(self._read).splitlines()

    def close_reading(self) -> None:
        if self._reading >= 0:
            os.close(self._reading)
            self._reading = -1


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.writer.close()
    pipe.close_reading()


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root of the standard logging, as it was afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield root
    root.handlers = handlers
    root.setLevel(level)


def test_a_line_is_one_json_object() -> None:
    kept = Kept()

    kept.logger.info("served", status=200, path="/a\nb", text="grüße 😀", nothing=None)

    (line,) = kept.lines
    assert kept.text.endswith("}\n")
    assert datetime.fromisoformat(line.pop("timestamp")).utcoffset() is not None
    assert line == {
        "level": "info",
        "event": "served",
        "status": 200,
        "path": "/a\nb",
        "text": "grüße 😀",
        "nothing": None,
    }


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text() | st.binary() | st.floats() | st.integers()))
def test_any_value_makes_one_line_of_json(fields: dict[str, object]) -> None:
    kept = Kept()

    kept.logger.info("x", **fields)

    (line,) = kept.lines
    assert fields.keys() <= line.keys()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_file_name_that_is_no_text_is_logged_all_the_same(log_format: LogFormat) -> None:
    kept = Kept(log_format)

    kept.logger.warning("unreadable", path=os.fsdecode(b"/srv/\xff.yaml"))

    assert "udcff" in kept.text


def test_lower_levels_are_left_out() -> None:
    kept = Kept(level="warning")

    kept.logger.debug("a")
    kept.logger.info("b")
    kept.logger.warning("c")
    kept.logger.error("d")

    assert [(line["event"], line["level"]) for line in kept.lines] == [("c", "warning"), ("d", "error")]


def test_a_failure_is_told_with_its_traceback_as_text() -> None:
    kept = Kept()

    try:
        int("what went wrong")
    except ValueError:
        kept.logger.exception("failed", request_id="req_1")

    (line,) = kept.lines
    assert (line["event"], line["level"], line["request_id"]) == ("failed", "error", "req_1")
    assert line["exception"].startswith("Traceback (most recent call last)")
    assert line["exception"].endswith("ValueError: invalid literal for int() with base 10: 'what went wrong'")


def test_people_get_words_and_whole_tracebacks() -> None:
    kept = Kept("console")

    kept.logger.info("serving", url="http://127.0.0.1:8000", workers=1)
    try:
        int("what went wrong")
    except ValueError:
        kept.logger.exception("failed")

    first, second, third, *_, last = kept.text.splitlines()
    assert re.fullmatch(r"\S+T\S+ \[info +\] serving +url=http://127.0.0.1:8000 workers=1", first)
    assert "[error" in second
    assert third == "Traceback (most recent call last):"
    assert last == "ValueError: invalid literal for int() with base 10: 'what went wrong'"


def test_a_traceback_for_people_shows_no_values() -> None:
    kept = Kept("console")
    secret = "sk-canary-0123456789"  # noqa: S105  it must not be seen

    try:
        int(secret[:0])
    except ValueError:
        kept.logger.exception("failed")

    assert "int(secret[:0])" in kept.text
    assert "canary" not in kept.text


def test_what_a_client_wrote_does_not_steer_a_terminal() -> None:
    kept = Kept("console")

    kept.logger.info("http_request", path="/\x1b[2J\x07\r\nforged line")

    assert len(kept.text.splitlines()) == 1
    assert "\x1b[2J" not in kept.text
    assert "forged line" in kept.text


def test_without_a_loop_a_line_is_written_at_once() -> None:
    stream = io.BytesIO()

    build_logger(LineSink(stream), level="info", log_format="json").info("now")

    assert b'"now"' in stream.getvalue()


async def test_on_a_loop_lines_are_written_soon_and_together(pipe: Pipe) -> None:
    sink = LineSink(pipe.writer)
    loop = asyncio.get_running_loop()

    sink.msg(b"one")
    sink.msg(b"two")
    written = await asyncio.wait_for(loop.run_in_executor(None, os.read, pipe._reading, 100), 2)  # noqa: SLF001  its own
    sink.msg(b"three")
    later = await asyncio.wait_for(loop.run_in_executor(None, os.read, pipe._reading, 100), 2)  # noqa: SLF001  its own

    assert (written, later) == (b"one\ntwo\n", b"three\n")
    sink.close()


async def test_no_line_of_ten_thousand_is_lost(pipe: Pipe) -> None:
    logger = build_logger(sink := LineSink(pipe.writer), level="info", log_format="json")
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(pipe.drain)
        for number in range(10_000):
            logger.info("line", number=number)
            if number % 500 == 0:
                await asyncio.sleep(0.03)
        await asyncio.to_thread(sink.close)
        pipe.writer.close()
        reading.result(5)

    assert [json.loads(line)["number"] for line in pipe.lines] == list(range(10_000))


async def test_no_line_is_lost_when_threads_log_beside_the_loop() -> None:
    kept = Kept()

    def log(start: int) -> None:
        for number in range(start, start + 2_500):
            kept.logger.info("line", number=number)

    threads = [asyncio.to_thread(log, start) for start in range(2_500, 10_000, 2_500)]
    running = asyncio.gather(*threads)
    log(0)
    await running
    kept.sink.close()

    assert sorted(line["number"] for line in kept.lines) == list(range(10_000))


async def test_a_reader_that_stalls_holds_up_nothing(pipe: Pipe) -> None:
    """A log that nobody reads must not make requests wait, nor fill the memory; what was lost is said."""
    sink = LineSink(pipe.writer)
    line = b"x" * 199
    longest_s, written = 0.0, 60_000
    for _ in range(60):
        before = time.perf_counter()
        for _ in range(1_000):
            sink.msg(line)
        await asyncio.sleep(0.005)
        longest_s = max(longest_s, time.perf_counter() - before)
    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(pipe.drain)
        await asyncio.to_thread(sink.close)
        pipe.writer.close()
        reading.result(5)

    *kept, told = pipe.lines
    lost = json.loads(told)
    assert longest_s < 0.5, "the loop went on"
    assert set(kept) == {line}
    assert (lost["event"], lost["level"], lost["count"]) == ("log_lines_dropped", "warning", written - len(kept))
    assert sink.dropped_total == lost["count"] > 0


async def test_a_stall_that_ends_is_caught_up_with(pipe: Pipe) -> None:
    sink = LineSink(pipe.writer)
    sink.msg(b"x" * 200_000)
    await asyncio.sleep(0.15)
    sink.msg(b"after")
    await asyncio.sleep(0.3)

    with ThreadPoolExecutor(1) as reader:
        reading = reader.submit(pipe.drain)
        async with asyncio.timeout(2):
            while pipe.lines[-1:] != [b"after"]:  # noqa: ASYNC110  a pipe has no event
                await asyncio.sleep(0.01)
        await asyncio.to_thread(sink.close)
        pipe.writer.close()
        reading.result(5)

    assert [len(line) for line in pipe.lines] == [200_000, 5]


def test_a_reader_that_left_fails_nobody(pipe: Pipe) -> None:
    sink = LineSink(pipe.writer)
    pipe.close_reading()

    sink.msg(b"one")
    sink.msg(b"two")
    sink.flush()
    sink.close()

    assert pipe.writer.closed is False
    assert sink.dropped_total == 2


async def test_flushing_and_closing_twice_changes_nothing() -> None:
    stream = io.BytesIO()
    sink = LineSink(stream)
    sink.msg(b"one")

    sink.flush()
    sink.flush()
    sink.close()
    sink.close()

    assert stream.getvalue() == b"one\n"


async def test_a_line_after_the_end_is_written_too() -> None:
    stream = io.BytesIO()
    sink = LineSink(stream)
    sink.msg(b"one")
    sink.close()

    await asyncio.to_thread(sink.msg, b"two")

    assert stream.getvalue() == b"one\ntwo\n"


def test_libraries_lines_come_in_the_same_form() -> None:
    kept = Kept()
    library = logging.Logger("aiohttp.client")  # noqa: LOG001  one that nobody else knows
    library.addHandler(StdlibLines(kept.logger))

    library.warning("a %s of %d", "kind", 7)
    try:
        int("gone")
    except ValueError:
        library.exception("it failed")

    first, second = kept.lines
    assert (first["event"], first["logger"], first["level"]) == ("a kind of 7", "aiohttp.client", "warning")
    assert (second["event"], second["level"]) == ("it failed", "error")
    assert second["traceback"].endswith("'gone'\n")
    assert "traceback" not in first


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_pitfall_099_no_line_holds_a_key(log_format: LogFormat) -> None:
    plain, later, shaped = "plain-word-of-mistral", "another/word+of=mine", "sk-proj-abcdef0123456789"
    kept = Kept(log_format, secrets=[plain])
    hide_secrets(kept.logger, [later])

    for secret in (plain, later, shaped):
        kept.logger.info("event", told=secret, text=f"\n{secret}", deep={"er": [secret]}, api_key=secret)
        try:
            int(secret)
        except ValueError:
            kept.logger.exception("failed")
    library = logging.Logger("library")  # noqa: LOG001  one that nobody else knows
    library.addHandler(StdlibLines(kept.logger))
    library.warning("headers: %s", {"authorization": f"Bearer {plain}", "x-api-key": later})

    for secret in (plain, later, shaped):
        assert secret not in kept.text
    assert kept.text.count("[key removed]") >= 17
    assert "invalid literal for int() with base 10: '[key removed]'" in kept.text


def test_pitfall_073_the_same_message_is_told_once_in_ten_seconds() -> None:
    kept = Kept()
    now = 100.0
    library = logging.Logger("redis")  # noqa: LOG001  one that nobody else knows
    library.addHandler(StdlibLines(kept.logger, clock=lambda: now))

    for second in range(25):
        for number in range(100):
            library.warning("no connection (%d)", number)
        library.error("no connection (%d)", second)
        now = 101.0 + second

    warnings = [(line["event"], line.get("repeated")) for line in kept.lines if line["level"] == "warning"]
    assert warnings == [("no connection (0)", None), ("no connection (0)", 999), ("no connection (0)", 999)]
    assert [line.get("repeated") for line in kept.lines if line["level"] == "error"] == [None, 9, 9]


def test_messages_without_end_fill_no_memory() -> None:
    kept = Kept()
    lines = StdlibLines(kept.logger)
    library = logging.Logger("library")  # noqa: LOG001  one that nobody else knows
    library.addHandler(lines)

    for number in range(3_000):
        library.warning(f"message {number}")

    assert len(kept.lines) == 3_000
    assert len(lines._told) <= 1_000  # noqa: SLF001  its memory is what is asked about


@pytest.mark.parametrize(
    ("number", "level"), [(1, "debug"), (15, "debug"), (25, "info"), (35, "warning"), (99, "critical")]
)
def test_levels_of_a_librarys_own_are_the_next_one_below(number: int, level: str) -> None:
    kept = Kept()
    library = logging.Logger("library")  # noqa: LOG001  one that nobody else knows
    library.addHandler(StdlibLines(kept.logger))

    library.log(number, "x")

    assert [line["level"] for line in kept.lines] == [level]


@pytest.mark.parametrize("text", ["%d of them", "%(name)s", "100%"])
def test_a_librarys_wrong_arguments_do_not_raise_where_it_logs(text: str) -> None:
    kept = Kept()
    library = logging.Logger("library")  # noqa: LOG001  one that nobody else knows
    library.addHandler(StdlibLines(kept.logger))

    library.warning(text, "x")

    assert [line["event"] for line in kept.lines] == [text]


def test_what_libraries_warn_of_is_taken_over(root: logging.Logger) -> None:
    kept = Kept()

    take_over_stdlib(kept.logger)
    logging.getLogger("some.library").info("of use to its authors")
    logging.getLogger("some.library").warning("of use to operators")

    assert [line["event"] for line in kept.lines] == ["of use to operators"]
    assert len(root.handlers) == 1


@pytest.mark.parametrize("setting", ["json", "console"])
def test_a_format_that_is_named_is_taken(setting: LogFormat) -> None:
    assert format_for(setting) == setting


def test_a_terminal_gets_words_and_everything_else_json() -> None:
    _, terminal = os.openpty()
    with open(terminal, "w") as screen, contextlib.redirect_stdout(screen):  # noqa: PTH123  it has no path
        assert format_for("auto") == "console"
    with contextlib.redirect_stdout(io.StringIO()):
        assert format_for("auto") == "json"


def test_the_standard_place_is_standard_output() -> None:
    out = io.BytesIO()
    with contextlib.redirect_stdout(io.TextIOWrapper(out, write_through=True)) as text:
        sink = standard_sink()

        sink.msg(b"line")

    assert out.getvalue() == b"line\n"
    text.detach()


class Refusing(io.BytesIO):
    """Takes nothing until it is told to."""

    refuses = True

    @override
    def flush(self) -> None:
        if self.refuses:
            self.truncate(0)
            self.seek(0)
            raise BrokenPipeError


def test_lines_that_nobody_took_are_told_of_once_somebody_does() -> None:
    stream = Refusing()
    sink = LineSink(stream)
    sink.msg(b'{"lost": 1}')
    stream.refuses = False
    sink.msg(b'{"taken": 2}')

    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [
        {"taken": 2},
        {"event": "log_lines_dropped", "level": "warning", "count": 1},
    ]
