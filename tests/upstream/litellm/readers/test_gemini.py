"""What is read here of Gemini's answers is what LiteLLM reads of them."""

import json
from functools import partial
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgateway.catalog.model import Account, Deployment
from llmgateway.upstream.litellm.pieces import Piece
from llmgateway.upstream.litellm.question import read_question
from llmgateway.upstream.litellm.readers.gemini import GeminiReader, gemini_stopped
from llmgateway.upstream.litellm.translation import Event
from llmgateway.upstream.litellm.wires import WIRES
from tests.upstream.translated import call

pytestmark = [
    pytest.mark.usefixtures("litellm"),
    pytest.mark.filterwarnings("ignore:Items? '.*' on TypedDict class"),
]
FIRST: Event = {"candidates": [{"content": {"parts": [{"text": "a"}], "role": "model"}}], "modelVersion": "gemini-x"}
COUNTS = st.integers(0, 50)
TEXT = st.lists(st.fixed_dictionaries({"modality": st.just("TEXT"), "tokenCount": COUNTS}), max_size=2)
OTHER = st.lists(
    st.fixed_dictionaries({"modality": st.sampled_from(["TEXT", "AUDIO", "IMAGE"]), "tokenCount": COUNTS}), max_size=2
)
USAGE = st.fixed_dictionaries(
    {"promptTokenCount": COUNTS},
    optional={
        "candidatesTokenCount": COUNTS,
        "totalTokenCount": COUNTS,
        "thoughtsTokenCount": COUNTS,
        "cachedContentTokenCount": COUNTS,
        "promptTokensDetails": TEXT | OTHER,
        "candidatesTokensDetails": TEXT | OTHER,
        "toolUsePromptTokenCount": COUNTS,
        "trafficType": st.just("ON_DEMAND"),
    },
)


def _fresh() -> GeminiReader:
    gemini = import_module("litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini")
    config: Any = None  # what reads whole answers by LiteLLM
    made = partial(gemini.ModelResponseIterator, None, False)
    count = gemini.VertexGeminiConfig().calculate_usage
    return GeminiReader(config, [], {}, made, count=count, stop=str.lower)


def _reader() -> GeminiReader:
    reader = _fresh()
    reader.event(FIRST)
    return reader


def _text(text: str = "b", **more: object) -> Event:
    return {"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}], **more}


@settings(deadline=None)  # LiteLLM loads what it needs when it first needs it
@given(st.lists(st.text(), min_size=1, max_size=3), USAGE)
def test_text_and_its_usage_are_read_as_litellm_reads_them(texts: list[str], usage: dict[str, Any]) -> None:
    event = _text(usageMetadata=usage, modelVersion="gemini-x", responseId="r")
    event["candidates"][0]["content"]["parts"] = [{"text": text} for text in texts]
    plain = _reader().plain(json.dumps(event).encode())
    [piece] = _reader().event(event)

    if plain is not None:
        assert piece == Piece(content=plain[0], usage=plain[1], model="gemini-x")
    else:
        assert not piece.content or "data:" in piece.content


REASONS = ["STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "SOMETHING_NEW"]


@settings(deadline=None)
@given(st.lists(st.text(), max_size=3), USAGE, st.sampled_from(REASONS), st.sampled_from(["gemini-x", "gemini-x@1"]))
def test_a_whole_answer_is_read_as_litellm_reads_it(
    texts: list[str], usage: dict[str, Any], reason: str, model: str
) -> None:
    deployment = Deployment(Account("main", "gemini", "litellm", api_key="k-0042"), "gemini-2.5-flash")
    wire = WIRES["gemini"](import_module("litellm"), deployment)
    asked = wire.request(read_question(call(), deployment, wire.known), stream=False)
    answer = _text(usageMetadata=usage, modelVersion=model, responseId="r")
    answer["candidates"][0] |= {"content": {"parts": [{"text": text} for text in texts]}, "finishReason": reason}
    body = json.dumps(answer).encode()
    [ours] = asked.reader.answer(body, {})
    # With this header it is LiteLLM's to read.
    [theirs] = asked.reader.answer(body, {"x-gemini-service-tier": "standard"})

    assert theirs.usage is not None
    assert ours.usage == {name: value for name, value in theirs.usage.items() if name != "service_tier"}
    assert (ours.content or None, ours.finish, ours.model) == (theirs.content or None, theirs.finish, theirs.model)
    assert not (ours.says_something ^ theirs.says_something)


@pytest.mark.parametrize(
    "event",
    [
        _text(""),
        _text("data:audio/wav;base64,aGVsbG8="),
        {"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}]}}]},
        {"candidates": [{"content": {"parts": [{"text": "b", "thoughtSignature": "s"}]}}]},
        {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": {}}}]}}]},
        {"candidates": [{"content": {"parts": [{"text": "b"}]}, "finishReason": "STOP"}]},
        {"candidates": [{"content": {"parts": [{"text": "b"}]}, "groundingMetadata": {}}]},
        {"candidates": [{"content": {"parts": [{"text": "b"}]}, "index": 1}]},
        {"candidates": _text()["candidates"] * 2},
        {"candidates": [], "promptFeedback": {"blockReason": "SAFETY"}},
        {"usageMetadata": {"promptTokenCount": 7}},
    ],
)
def test_everything_else_is_litellms_to_read(event: Event) -> None:
    assert _reader().plain(json.dumps(event).encode()) is None


def test_the_first_event_is_litellms_to_read_because_it_tells_the_model() -> None:
    reader = _fresh()

    assert reader.plain(json.dumps(_text()).encode()) is None
    assert reader.event(FIRST) == [Piece(content="a", model="gemini-x")]
    assert reader.plain(json.dumps(_text()).encode()) == ("b", None)


@pytest.mark.parametrize(
    ("event", "stopped"),
    [
        (FIRST, False),
        ({"candidates": [{"finishReason": "STOP"}]}, True),
        ({"promptFeedback": {"blockReason": "SAFETY"}}, True),
        ({}, False),
    ],
)
def test_what_ends_an_answer_is_known(event: Event, stopped: bool) -> None:
    assert gemini_stopped(event) is stopped
