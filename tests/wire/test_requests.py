import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.errors import InvalidJSONError, InvalidRequestError
from llmgateway.wire import requests
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


def outcome(body: bytes, *, large_bytes: int) -> Any:
    """Read a chat, as one that is above a size or not; give what the gateway takes from it, or what it says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "_LARGE_BYTES", large_bytes)
        try:
            asked = read_chat(body)
        except InvalidRequestError as error:
            return type(error), error.message, error.param
    return asked.model, asked.user, asked.n, asked.stream_options, asked.needs(), asked.has_answers()


LONG = ('"' + r"one \\ \"two\" \u00e4 \ud83d\ude00 \n ä " * 12 + '"').encode()
SAID = b'{"role":"user","content":' + LONG + b"}"


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":[%b]}' % SAID,
        b'{"model":"m","messages":[{"role":"assistant","content":null},%b],"n":3}' % SAID,
        # Twice, of which one is no message's text.
        b'{"user":%b,"model":"m","messages":[%b]}' % (LONG, SAID),
        b'{"model":"m","user":%b,"messages":[{"role":"user","content":%b}]}' % (b'"' + b"a" * 99 + b'"', LONG),
        b'{%b:1,"model":"m","messages":[%b]}' % (LONG, SAID),
        b'{"model":%b,"messages":[%b]}' % (LONG, SAID),
        # Of a name given twice each is checked.
        b'{"model":"m","messages":[{"role":"user","content":5,"content":%b}]}' % LONG,
        b'{"model":"m","messages":[{"role":"user","content":%b,"content":5}]}' % LONG,
        b'{"model":"m","messages":[{"role":"user","content":%b,"content":"a"}]}' % LONG,
        b'{"model":"m","messages":3,"messages":[%b]}' % SAID,
        # Wrong before it, behind it, and in it.
        b'{"model":3,"messages":[%b]}' % SAID,
        b'{"model":"m","messages":[%b,{"role":"robot"}]}' % SAID,
        b'{"model":"m","messages":[%b]' % SAID,
        b'{"model":"m","messages":[%b]}x' % SAID,
        b'{"model":"m","messages":[%b]}' % SAID.replace(b"two", rb"\x"),
        b'{"model":"m","messages":[%b]}' % SAID.replace(b"two", rb"\ud800"),
        b'{"model":"m","messages":[%b]}' % SAID.replace(b"two", b"\n"),
        b'{"model":"m","messages":[%b]}' % SAID.replace(b"two", b"\xff"),
        # Other kinds of long ones.
        b'{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","text":%b}]}]}' % LONG,
        b'{"model":"m","messages":[{"role":"user","content":{"a":%b}}]}' % LONG,
        b'{"model":"m","messages":[{"role":"user","other":%b}]}' % LONG,
        b'{"model":"m","messages":[{"role":"user","content":%b}]}' % (b"[" * 3000),
        b'{"model":"m","messages":[],"metadata":%b}' % LONG,
        b"[" * 3000,
        b'{"model":"m"}',
    ],
)
def test_a_large_chat_is_read_and_refused_like_a_small_one(body: bytes) -> None:
    assert outcome(body, large_bytes=0) == outcome(body, large_bytes=len(body))


@given(
    st.text(max_size=60),
    st.sampled_from(["content", "cont\\u0065nt", "role", "name"]),
    st.sampled_from(['"user"', '"assistant"', '"robot"', "null", "{}", "[]", '[{"type":"file"}]', '"\\ud800"', ""]),
    st.integers(0, 400),
)
def test_any_large_chat_is_read_and_refused_like_a_small_one(text: str, name: str, value: str, cut: int) -> None:
    said = f'{{"role":"user","content":{json.dumps(text, ensure_ascii=False)},"{name}":{value}}}'
    body = f'{{"model":"m","messages":[{said},{said}]}}'.encode(errors="replace")

    for each in (body, body[:cut], body[:cut] + b"\xe4" + body[cut:]):
        assert outcome(each, large_bytes=0) == outcome(each, large_bytes=len(each))


def test_a_large_chats_text_is_not_made_into_a_string() -> None:
    asked = read_chat(chat(messages=[{"role": "user", "content": "\u00e4" * 300_000}], user="me"))

    assert asked.user == "me"
    assert isinstance(asked, requests.ChatRequest)
    assert len(str(asked.messages[0].content)) < 100


@pytest.mark.alone
def test_finding_out_what_a_call_needs_costs_a_fraction_of_reading_it() -> None:
    body = chat(temperature=0.5, stream=True)
    asked = read_chat(body)

    assert relative_cost(lambda: read_chat(body).needs(), number=2000) < 0.6
    assert relative_cost(asked.needs, number=2000) < 0.2
