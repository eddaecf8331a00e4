"""One log line for every request, however it ended: what happened, never what was said."""

import io
import json
import os
import time
from typing import Any

import pytest

from llmgateway.caller import Caller
from llmgateway.exchange import Attempt, Complete, Event, Exchange, Streamed, Trace, Usage
from llmgateway.telemetry.logs import LineSink, LogFormat, build_logger
from llmgateway.telemetry.request_log import RequestLog
from tests.deployments import deployment
from tests.timing import relative_cost


class Log:
    """A request log and the lines it wrote."""

    def __init__(self, level: str = "debug") -> None:
        self._written = io.BytesIO()
        self._sink = LineSink(self._written)
        self.requests = RequestLog(build_logger(self._sink, level=level, log_format="json"))

    def lines(self) -> list[dict[str, Any]]:
        self._sink.flush()
        return [json.loads(line) for line in self._written.getvalue().splitlines()]

    def line(self, exchange: Exchange) -> dict[str, Any]:
        self.requests.record(exchange)
        (line,) = self.lines()
        return line


@pytest.fixture
def log() -> Log:
    return Log()


class NoChunks:
    def __aiter__(self) -> "NoChunks":
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Nothing is open."""


def page(**fields: Any) -> Exchange:
    return Exchange(**{"method": "GET", "path": "/health", "status": 200, **fields})


def call(**fields: Any) -> Exchange:
    known = {"operation": "chat", "requested_model": "fast", "provider": "main", "upstream_model": "gpt-4o"}
    return Exchange(**{"method": "POST", "path": "/v1/chat/completions", "status": 200, **known, **fields})


@pytest.mark.parametrize("status", [200, 204, 307, 404])
def test_a_page_that_is_served_is_told_at_debug_only(log: Log, status: int) -> None:
    line = log.line(page(status=status))

    assert (line["event"], line["level"]) == ("http_request", "debug")
    assert (line["method"], line["path"], line["status"]) == ("GET", "/health", status)
    assert line["duration_ms"] >= 0
    assert line.keys() == {"timestamp", "level", "event", "request_id", "method", "path", "status", "duration_ms"}

    quiet = Log("info")
    quiet.requests.record(page(status=status))
    assert quiet.lines() == []


@pytest.mark.parametrize(("status", "code"), [(404, "not_found"), (500, "internal_error"), (503, None), (None, None)])
def test_a_page_that_fails_is_a_warning(status: int | None, code: str | None) -> None:
    line = Log("info").line(page(status=status, error_code=code, path="/" + "x" * 1000))

    assert (line["event"], line["level"], line.get("status")) == ("http_request", "warning", status)
    assert line.get("error_code") == code
    assert len(line["path"]) == 256


def test_the_clients_own_id_is_beside_ours(log: Log) -> None:
    exchange = page(client_id="mine")

    line = log.line(exchange)

    assert (line["request_id"], line["client_request_id"]) == (exchange.id, "mine")


def test_a_line_leads_to_its_trace(log: Log) -> None:
    line = log.line(call(trace=Trace(trace_id=0xBF92F3577B34DA6A3CE929D0E0E4736, span_id=0xF067AA0BA902B7)))

    assert (line["trace_id"], line["span_id"]) == ("0bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")


def test_a_model_call_is_told_with_all_that_was_learned(log: Log) -> None:
    now = time.perf_counter()
    attempts = [
        Attempt(deployment("other", "m"), now, now + 0.01),
        Attempt(deployment("main", "gpt-4o"), now + 0.01, now + 0.03),
    ]
    usage = Usage(prompt_tokens=7, completion_tokens=3, cached_tokens=2, reasoning_tokens=1)
    exchange = call(
        started=now,
        ended=now + 0.05,
        attempts=attempts,
        reply=Complete(b"{}", model="gpt-4o-2026"),
        usage=usage,
        cost_usd=0.000_012_500_000_1,
        organization="acme",
        events=[Event("retry", now), Event("failover", now)],
    )

    line = log.line(exchange)

    assert (line["event"], line["level"], line["status"]) == ("llm_request_complete", "info", 200)
    known = {name: line[name] for name in line if name not in {"timestamp", "level", "event", "request_id"}}
    assert known == {
        "method": "POST",
        "path": "/v1/chat/completions",
        "status": 200,
        "duration_ms": 50.0,
        "organization": "acme",
        "operation": "chat",
        "model": "fast",
        "provider": "main",
        "upstream_model": "gpt-4o",
        "response_model": "gpt-4o-2026",
        "stream": False,
        "attempts": 2,
        "retries": 1,
        "overhead_ms": 20.0,
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "cached_tokens": 2,
        "reasoning_tokens": 1,
        "cost_usd": 0.0000125,
        "cache": "BYPASS",
    }


def test_tokens_that_were_counted_here_are_marked(log: Log) -> None:
    line = log.line(call(usage=Usage(1, 2, estimated=True)))

    assert line["usage_estimated"] is True
    assert not {"cached_tokens", "reasoning_tokens", "cost_usd"} & line.keys()


def test_overhead_is_never_below_nothing(log: Log) -> None:
    now = time.perf_counter()

    line = log.line(call(attempts=[Attempt(deployment(), now, now + 5.0)]))

    assert line["overhead_ms"] == 0


@pytest.mark.parametrize("first_chunk_after_s", [None, 0.25])
def test_a_stream_tells_when_its_first_chunk_came(log: Log, first_chunk_after_s: float | None) -> None:
    started = time.perf_counter()
    first = None if first_chunk_after_s is None else started + first_chunk_after_s
    attempts = [
        Attempt(deployment(), started, started, first_chunk=started + 9.0),
        Attempt(deployment(), started, started, first_chunk=first),
    ]

    line = log.line(call(started=started, stream=True, reply=Streamed(NoChunks()), attempts=attempts))

    assert line["stream"] is True
    assert line.get("ttft_ms") == (None if first is None else pytest.approx(250, abs=0.1)), "of the last attempt"
    assert "prompt_tokens" not in line


def test_a_stream_that_nobody_attempted_has_no_first_chunk(log: Log) -> None:
    line = log.line(call(stream=True, reply=Streamed(NoChunks()), usage=Usage(1, 2)))

    assert "ttft_ms" not in line
    assert (line["prompt_tokens"], line["completion_tokens"]) == (1, 2)


def test_a_call_that_failed_before_its_model_was_known_is_told(log: Log) -> None:
    line = log.line(Exchange(operation="embedding", error_code="invalid_json", status=400))

    assert (line["event"], line["level"], line["status"]) == ("llm_request_error", "warning", 400)
    assert (line["error_code"], line["attempts"]) == ("invalid_json", 0)
    assert not {"model", "provider", "upstream_model"} & line.keys()


def test_a_stream_that_broke_is_an_error_although_its_status_was_200(log: Log) -> None:
    line = log.line(call(stream=True, error_code="provider_unavailable"))

    assert (line["event"], line["status"], line["error_code"]) == ("llm_request_error", 200, "provider_unavailable")


def test_nothing_is_null(log: Log) -> None:
    for exchange in (Exchange(), call(), call(status=None, error_code="x"), page(), Exchange(operation="chat")):
        log.requests.record(exchange)

    assert all(value is not None for line in log.lines() for value in line.values())


def test_names_as_long_as_books_are_cut(log: Log) -> None:
    long = "x" * 100_000

    line = log.line(call(requested_model=long, path=long, reply=Complete(b"", model=long)))

    assert line["model"] == line["path"] == line["response_model"] == "x" * 256


def test_a_start_is_told_at_debug_alone(log: Log) -> None:
    log.requests.started(call(client_id="mine"))
    quiet = Log("info")
    quiet.requests.started(call())

    (line,) = log.lines()
    assert (line["event"], line["level"], line["client_request_id"]) == ("llm_request_start", "debug", "mine")
    assert (line["operation"], line["model"], line["stream"]) == ("chat", "fast", False)
    assert (log.requests.starts, quiet.requests.starts, quiet.lines()) == (True, False, [])


@pytest.mark.alone
def test_a_line_costs_little() -> None:
    now = time.perf_counter()
    quiet = Log("info")
    attempts = [Attempt(deployment(), now, now + 0.01)]
    exchange = call(
        attempts=attempts, reply=Complete(b""), usage=Usage(1, 2), cost_usd=0.001, ended=now + 1, trace=Trace(1, 2)
    )

    assert relative_cost(lambda: quiet.requests.record(exchange), number=1000) < 12


def test_it_says_whose_key_it_was_and_which_rule_held_it_back(log: Log) -> None:
    held_back = Event("limit", 0.0, {"rule": "key.concurrent"})

    told = log.line(call(caller=Caller(kind="client", key_id="key_1"), status=429, events=[held_back]))

    assert (told["key_id"], told["rule"]) == ("key_1", "key.concurrent")


@pytest.mark.parametrize(
    "fields",
    [
        {"path": "/sk-proj-0123456789abcdefghijklmnopqrstuv"},
        {"client_id": "sk-proj-0123456789abcdefghijklmnopqrstuv"},
        {"organization": "sk-proj-0123456789abcdefghijklmnopqrstuv"},
        {"caller": Caller(kind="client", key_id="sk-proj-0123456789abcdefghijklmnopqrstuv")},
        {"error_code": "sk-proj-0123456789abcdefghijklmnopqrstuv"},
        {"requested_model": "sk-proj-0123456789abcdefghijklmnopqrstuv"},
        {"provider": "sk-proj-0123456789abcdefghijklmnopqrstuv"},
        {"upstream_model": "sk-proj-0123456789abcdefghijklmnopqrstuv"},
        {"reply": Complete(b"{}", model="sk-proj-0123456789abcdefghijklmnopqrstuv")},
        {"events": [Event("limit", 1.0, {"rule": "sk-proj-0123456789abcdefghijklmnopqrstuv"})]},
    ],
)
def test_a_key_in_any_field_is_hidden_however_often_it_comes(log: Log, fields: dict[str, Any]) -> None:
    for given in ({}, {}, fields, fields):
        log.requests.record(call(**given))

    written = [json.dumps(line) for line in log.lines()]
    assert len(written) == 4
    assert not any("0123456789abcdefghij" in line for line in written)


def test_a_path_that_is_no_text_is_told_each_time(log: Log) -> None:
    for _ in range(3):
        log.requests.record(page(path=os.fsdecode(b"/\xff")))

    assert [line["path"] for line in log.lines()] == ["/\udcff"] * 3


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_both_forms_of_a_line_have_the_same_fields(log_format: LogFormat) -> None:
    written = io.BytesIO()
    sink = LineSink(written)
    requests = RequestLog(build_logger(sink, level="info", log_format=log_format))

    for _ in range(2):
        requests.record(call(usage=Usage(7, 3), requested_model="sk-proj-0123456789abcdefghijklmnopqrstuv"))
    sink.flush()

    first, second = written.getvalue().decode().splitlines()
    for line in (first, second):
        assert "llm_request_complete" in line
        assert "completion_tokens" in line
        assert "cached_tokens" not in line
        assert "0123456789abcdefghij" not in line
