"""A question as a call, and what comes back as an answer."""

import json
from typing import Any

import pytest

from llmgateway.documents.question import Answer, Question
from llmgateway.errors import UpstreamError
from llmgateway.exchange import Exchange
from llmgateway.flavor import Flavor
from llmgateway.jobs.running.asking import Heard, answer_of, ask, call_of, exchange_of, fields_of
from llmgateway.jobs.running.means import Means
from llmgateway.storage.jobs.rows import Origin
from tests.jobs.rig import Rig
from tests.jobs.scripted import Asked, RunningJobs, Says, Script, job_of

QUESTION = Question(step="a", type="initial", messages=({"role": "user", "content": "Sum up."},), max_tokens=100)


def fields(**settings: Any) -> dict[str, Any]:
    return fields_of(QUESTION, Flavor(model="m", **settings), "sonnet", stream=False)


def means(rig: Rig) -> Means:
    return rig.runner._means  # noqa: SLF001  what a process gives all its runs


def exchange() -> Exchange:
    row = RunningJobs().submit(job_of("text")).row
    return exchange_of(row, row.origin.caller, 20, lambda _: None)


def test_the_flavors_parameters_go_with_every_call() -> None:
    asked = fields(temperature=0.1, top_p=0.5, frequency_penalty=1.0, presence_penalty=0.5, stop=("END",))

    assert asked == {
        "model": "sonnet",
        "messages": [{"role": "user", "content": "Sum up."}],
        "temperature": 0.1,
        "top_p": 0.5,
        "frequency_penalty": 1.0,
        "presence_penalty": 0.5,
        "stop": ["END"],
        "max_tokens": 100,
    }


def test_what_nobody_set_is_not_sent() -> None:
    assert {"frequency_penalty", "presence_penalty", "stop", "stream"}.isdisjoint(fields())


@pytest.mark.parametrize(
    "name",
    [
        *("model", "messages", "stream", "stream_options", "n", "max_tokens", "api_key", "api_base", "base_url"),
        *("Authorization", "extra_headers", "aws_secret_access_key", "proxy", "azure-endpoint", "extra_body"),
    ],
)
def test_a_flavors_own_parameters_are_never_a_key_an_address_or_the_messages(name: str) -> None:
    assert fields(custom_params={name: "evil"}) == fields()


def test_other_parameters_of_its_own_are_sent_and_replace_the_usual_ones() -> None:
    asked = fields(custom_params={"seed": 7, "top_p": 0.1, "reasoning_effort": "low", "max_completion_tokens": 4000})

    assert (asked["seed"], asked["top_p"], asked["reasoning_effort"]) == (7, 0.1, "low")
    assert asked["max_completion_tokens"] == 100
    assert "max_tokens" not in asked


async def test_a_large_question_is_written_in_a_thread_all_the_same() -> None:
    large = Question(step="a", type="map", messages=({"role": "user", "content": "é" * 200_000},), max_tokens=9)
    call = await call_of(large, Flavor(model="m"), "m", stream=True)

    assert json.loads(call.body)["messages"][0]["content"] == "é" * 200_000
    assert (call.stream, call.include_usage, call.max_tokens) == (True, True, 9)


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ({"content": "Done."}, Answer(text="Done.")),
        ({"content": [{"type": "text", "text": "Do"}, {"type": "text", "text": "ne."}, 1]}, Answer(text="Done.")),
        ({"content": None, "refusal": "No."}, Answer(text="", refusal="No.")),
        ({"content": 7, "refusal": ""}, Answer(text="")),
    ],
)
def test_an_answer_is_read_as_providers_write_it(message: dict[str, Any], answer: Answer) -> None:
    body = json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()

    assert answer_of(body) == answer


@pytest.mark.parametrize("body", [b"", b"[]", b'{"choices": []}', b'{"choices": [{}]}', b"\xff", b"[" * 5000])
def test_what_cannot_be_read_is_an_empty_answer(body: bytes) -> None:
    assert answer_of(body) == Answer(text="")


@pytest.mark.parametrize(
    ("given", "reason"),
    [("length", "length"), ("max_tokens", "length"), ("SAFETY", "content_filter"), (None, "stop"), (3, "stop")],
)
def test_reasons_have_openais_names(given: object, reason: str) -> None:
    body = json.dumps({"choices": [{"message": {"content": "x"}, "finish_reason": given}]}).encode()

    assert answer_of(body).finish_reason == reason


def test_a_stream_is_put_together_of_whatever_comes_in_a_chunk() -> None:
    heard = Heard()
    events = (
        b': comment\n\ndata: {"choices":[{"index":0,"delta":{"role":"assistant","content":"One, "}}]}\n\n'
        b'data: {"choices":[{"index":1,"delta":{"content":"other"}}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{"content":"two."}}]}\n\n'
    )
    end = (
        b'data: {"choices":[{"index":0,"delta":{"refusal":"No"},"finish_reason":"length"}]}\n\n'
        b'data: {"choices":[],"usage":{}}\n\ndata: nonsense\n\ndata: [DONE]\n\n'
    )

    assert heard.feed(events) == "One, two."
    assert heard.feed(end) == ""
    assert heard.answer() == Answer(text="One, two.", finish_reason="length", refusal="No")


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_is_heard_and_written_down_once(*, stream: bool) -> None:
    rig, pieces, asked = Rig(Says("A long answer.")), list[str](), exchange()
    call = await call_of(QUESTION, Flavor(model="m"), "m", stream=stream)
    said = await ask(means(rig), asked, call, pieces.append)

    assert "".join(pieces) == said.answer.text == "A long answer."
    assert (asked.status, asked.error_code) == (200, None)
    assert rig.model.records == [asked]
    assert not said.demo


async def test_a_large_answer_is_read_in_a_thread() -> None:
    rig = Rig(Says("é" * 100_000))
    call = await call_of(QUESTION, Flavor(model="m"), "m", stream=False)

    assert (await ask(means(rig), exchange(), call, len)).answer.text == "é" * 100_000  # type: ignore[arg-type]


def bug(_asked: Asked) -> Says:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("script", "error", "status", "code"),
    [
        (UpstreamError("down"), UpstreamError, 502, "provider_unavailable"),
        (Says(pieces=["One"], breaks=UpstreamError("broken")), UpstreamError, 502, "provider_unavailable"),
        (bug, ZeroDivisionError, 500, "internal_error"),
    ],
)
async def test_a_failure_is_written_down_as_well(
    script: Script, error: type[Exception], status: int, code: str
) -> None:
    rig, asked = Rig(script), exchange()
    call = await call_of(QUESTION, Flavor(model="m"), "m", stream=True)
    with pytest.raises(error):
        await ask(means(rig), asked, call, lambda _: None)

    assert (asked.status, asked.error_code) == (status, code)
    assert rig.model.records == [asked]
    assert rig.model.in_flight == 0


@pytest.mark.parametrize("trace", [None, "nonsense", "00-00000000000000000000000000000000-b7ad6b7169203331-01"])
def test_a_job_whose_request_has_no_trace_is_not_kept(trace: str | None) -> None:
    new = job_of("text", origin=Origin(caller=RunningJobs().submit(job_of("x")).row.origin.caller, trace=trace))
    row = RunningJobs().submit(new).row

    trace_of_pass = exchange_of(row, row.origin.caller, 20, lambda _: None).trace
    assert trace_of_pass is not None
    assert not trace_of_pass.sampled


def test_a_call_of_a_job_is_not_answered_from_the_cache() -> None:
    asked = exchange()

    assert asked.cache_ask is not None
    assert asked.cache_ask.no_cache
    assert asked.cache_ask.no_store
    assert asked.deadline == asked.started + 20
