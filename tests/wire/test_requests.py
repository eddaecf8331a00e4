import json

import pytest

from llmgateway.errors import InvalidJSONError, InvalidRequestError
from llmgateway.wire.needs import NO_NEEDS
from llmgateway.wire.requests import read_chat, read_completion, read_embedding
from tests.timing import relative_cost

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def chat(**fields: object) -> bytes:
    return json.dumps(CHAT | fields).encode()


def test_what_the_gateway_needs_is_read() -> None:
    asked = read_chat(chat(stream=True, stream_options={"include_usage": True}, unknown={"a": [1]}))

    assert (asked.model, asked.stream) == ("m", True)
    assert asked.stream_options is not None
    assert asked.stream_options.include_usage is True


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"messages":[{"role":"user","content":"hi"}]}', "model"),
        (chat(model=""), "model"),
        (chat(model=3), "model"),
        (b'{"model":"m"}', "messages"),
        (chat(messages="hi"), "messages"),
        (chat(messages=[]), "messages"),
        (chat(messages=[{"role": "robot", "content": "hi"}]), "messages[0].role"),
        (chat(messages=[{"role": "user", "content": "a"}, {"role": "user", "content": 3}]), "messages[1].content"),
        (chat(messages=[{"content": "hi"}]), "messages[0].role"),
        (chat(messages=[{"role": "user", "content": [{"text": "x"}]}]), "messages[0].content[0].type"),
        (chat(stream="yes"), "stream"),
        (chat(stream_options={"include_usage": 1}), "stream_options.include_usage"),
    ],
)
def test_a_wrong_field_is_named_by_its_path(body: bytes, param: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read_chat(body)

    assert (caught.value.param, caught.value.code, caught.value.status) == (param, "invalid_value", 400)


def test_the_message_says_what_would_be_right() -> None:
    with pytest.raises(InvalidRequestError, match="use system, developer, user, assistant, tool or function"):
        read_chat(chat(messages=[{"role": "robot", "content": "hi"}]))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"nothing",
        chat()[:-1],
        b"\xef\xbb\xbf" + chat(),
        chat().replace(b'"hi"', b'"\xff\xfe"'),
        chat(other="x").replace(b'"x"', b'"\xff"'),
        chat(temperature=float("nan")),
        b"[" * 100_000,
        b'{"model":"m","x":' + b"[" * 100_000,
        b'{"model":"m","messages":' + b'[{"a":' * 50_000,
    ],
)
def test_what_is_not_json_is_refused_at_once(body: bytes) -> None:
    with pytest.raises(InvalidJSONError) as caught:
        read_chat(body)

    assert (caught.value.status, caught.value.code) == (400, "invalid_json")


def test_completions_take_texts_and_tokens() -> None:
    assert read_completion(b'{"model":"m","prompt":["a","b"]}').model == "m"
    assert read_completion(b'{"model":"m","prompt":[1,2]}').model == "m"
    with pytest.raises(InvalidRequestError) as caught:
        read_completion(b'{"model":"m"}')
    assert caught.value.param == "prompt"


def test_embeddings_need_an_input() -> None:
    assert read_embedding(b'{"model":"m","input":[[1,2],[3]]}').model == "m"
    with pytest.raises(InvalidRequestError) as caught:
        read_embedding(b'{"model":"m","input":[]}')
    assert caught.value.param == "input"


def test_what_a_chat_needs_is_found_in_all_its_messages_and_fields() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, picture]},
        {"role": "assistant", "content": "A cat."},
        {"role": "user", "content": "Are you sure?"},
    ]

    assert read_chat(chat(messages=messages)).needs() == {"vision"}
    assert read_chat(chat(messages=messages, tools=[{"type": "function"}])).needs() == {"vision", "tools"}
    assert read_chat(chat(reasoning_effort="low", stream=True)).needs() == {"reasoning"}


def test_an_ordinary_call_needs_nothing_and_makes_nothing_new() -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]

    assert read_chat(chat()).needs() is NO_NEEDS
    assert read_chat(chat(messages=parts)).needs() == NO_NEEDS
    assert read_completion(b'{"model":"m","prompt":"x","tools":[1]}').needs() is NO_NEEDS
    assert read_embedding(b'{"model":"m","input":"x"}').needs() is NO_NEEDS


@pytest.mark.parametrize("odd", [None, 3, "x", True, {}, [], [[]], {"type": 3}, {"type": "json_schema", "a": [1]}])
@pytest.mark.parametrize("field", ["tools", "functions", "response_format", "reasoning_effort", "modalities"])
def test_odd_values_of_the_fields_that_say_what_is_needed_are_not_refused(field: str, odd: object) -> None:
    read_chat(chat(**{field: odd})).needs()


def test_a_chat_knows_whether_a_model_has_said_anything_yet() -> None:
    question, answer = {"role": "user", "content": "hi"}, {"role": "assistant", "content": None}

    assert not read_chat(chat(messages=[{"role": "system", "content": "be brief"}, question])).has_answers()
    assert read_chat(chat(messages=[question, answer, question])).has_answers()
    assert not read_completion(b'{"model":"m","prompt":"assistant"}').has_answers()


@pytest.mark.alone
def test_finding_out_what_a_call_needs_costs_a_fraction_of_reading_it() -> None:
    body = chat(temperature=0.5, stream=True)
    asked = read_chat(body)

    assert relative_cost(lambda: read_chat(body).needs(), number=2000) < 0.6
    assert relative_cost(asked.needs, number=2000) < 0.2
