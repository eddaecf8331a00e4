import json
from typing import Annotated

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from llmgateway.errors import InvalidJSONError, InvalidRequestError
from llmgateway.wire import codec
from llmgateway.wire.codec import TopFields, decode, holds
from llmgateway.wire.requests import read_chat, read_completion, read_embedding


class Leaf(Struct):
    role: str
    size: Annotated[int, Meta(ge=1)] = 1


class Root(Struct):
    model: str
    leaves: list[Leaf] = []
    by_name: dict[str, Leaf] = {}


ROOT = msgspec.json.Decoder(Root)
READERS = st.sampled_from([read_chat, read_completion, read_embedding])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["model", "messages", "role", "content", "type", "prompt", "input", "stream"])
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


def fault(body: bytes) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        decode(ROOT, body)
    return caught.value


def test_what_is_right_is_read() -> None:
    assert decode(ROOT, '{"model":"grüße","other":[1]}'.encode()) == Root("grüße")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{}", "model"),
        (b'{"model":1}', "model"),
        (b'{"model":"m","leaves":{}}', "leaves"),
        (b'{"model":"m","leaves":[{"role":"a"},{}]}', "leaves[1].role"),
        (b'{"model":"m","leaves":[{"role":"a","size":0}]}', "leaves[0].size"),
        (b'{"model":"m","by_name":{"x":{"role":2}}}', "by_name[...].role"),
        (b'{"model":"m","by_name":{"x":3}}', "by_name[...]"),
    ],
)
def test_a_fault_has_its_path(body: bytes, param: str) -> None:
    error = fault(body)

    assert (error.param, error.code, error.status) == (param, "invalid_value", 400)
    assert error.message.startswith(f"`{param}`: ")
    assert error.message.endswith(".")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"[]", "must be a JSON object: expected `object`, got `array`"),
        (b"3", "must be a JSON object"),
        (b"", "not valid JSON"),
        (b'{"model":"m"', "not valid JSON"),
        (b'{"model":"m"} x', "not valid JSON"),
        (b'{"model":NaN}', "not valid JSON"),
        (b'{"model":"\\ud800"}', "not valid JSON"),
        (b'{"model":"m","x":"ok\xff"}', "not valid UTF-8 (byte 20)"),
        (b'{"leaves":' + b'[{"by_name":' * 100_000, "nested too deeply"),
        (b"[" * 100_000, "JSON"),
    ],
)
def test_what_is_no_json_object_has_no_path(body: bytes, said: str) -> None:
    error = fault(body)

    assert isinstance(error, InvalidJSONError)
    assert (error.param, error.code) == (None, "invalid_json")
    assert said in error.message


@pytest.mark.parametrize(
    ("reader", "body", "advice"),
    [
        (read_chat, {"messages": [{"role": "user"}]}, "name a model from GET /v1/models"),
        (read_chat, {"model": "m", "messages": []}, "send a list with at least one message"),
        (read_chat, {"model": "m", "messages": [{"role": "user", "content": 1}]}, "send a text or a list of parts"),
        (read_completion, {"model": "m", "prompt": [1.5]}, "send a text, a list of texts or token ids"),
        (read_embedding, {"model": "m", "input": [None]}, "send a text, a list of texts or token ids"),
    ],
)
def test_the_message_says_what_would_be_right(reader: object, body: dict[str, object], advice: str) -> None:
    assert callable(reader)
    with pytest.raises(InvalidRequestError) as caught:
        reader(json.dumps(body).encode())

    assert caught.value.message.endswith(f"; {advice}.")


@pytest.mark.parametrize(
    "role",
    [
        "x - at `$.model",
        "x` - at `$.model`",
        "Object missing required field `model`",
        "missing required field `a`",
        "\n",
    ],
)
def test_a_value_that_looks_like_a_path_is_not_taken_for_one(role: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read_chat(json.dumps({"model": "m", "messages": [{"role": role}]}).encode())

    assert caught.value.param == "messages[0].role"


def test_a_long_value_is_not_repeated_whole() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        read_chat(json.dumps({"model": "m", "messages": [{"role": "x" * 1_000_000}]}).encode())

    assert caught.value.param == "messages[0].role"
    assert len(caught.value.message) < 400


@given(READERS, st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example(read_chat, b'{"model":"\xed\xa0\x80"}')
@example(read_chat, b"\x00" * 10)
def test_no_bytes_raise_anything_else(reader: object, body: bytes) -> None:
    assert callable(reader)
    with pytest.raises(InvalidRequestError) as caught:
        reader(body)

    assert isinstance(caught.value, InvalidJSONError) or caught.value.param


@given(READERS, JSON)
def test_no_json_raises_anything_else(reader: object, value: object) -> None:
    assert callable(reader)
    fields = value if isinstance(value, dict) else {"model": "m", "messages": value, "prompt": value, "input": value}
    try:
        asked = reader(json.dumps(fields).encode())
    except InvalidRequestError as error:
        assert isinstance(error, InvalidJSONError) or error.param  # noqa: PT017  anything else goes on as it is
    else:
        assert asked.model


@given(
    before=st.integers(0, 70),
    after=st.integers(0, 70),
    part=st.integers(4, 40),
    mark=st.sampled_from([b"a", b"ab", b"aab"]),
)
def test_a_mark_is_found_wherever_the_parts_are_cut(before: int, after: int, part: int, mark: bytes) -> None:
    body = b"." * before + mark + b"." * after

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_PART_BYTES", part)

        assert holds(body, mark)
        assert holds(body + mark, mark)
        assert not holds(body, mark + b"!")
        assert not holds(body.replace(mark, b"b"), mark)
        assert not holds(b"", mark)


@given(st.text(max_size=30), st.binary(max_size=3), st.text(max_size=30), st.integers(4, 40))
def test_what_is_no_utf_8_is_found_where_python_finds_it(before: str, odd: bytes, after: str, part: int) -> None:
    body = b'{"model":"' + before.encode() + odd + after.encode() + b'\xe4"}'
    with pytest.raises(UnicodeDecodeError) as python:
        body.decode()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_PART_BYTES", part)

        assert fault(body).message.startswith(f"The body is not valid UTF-8 (byte {python.value.start})")


@given(st.text(min_size=1, max_size=40), st.integers(4, 40))
def test_a_text_is_whole_wherever_its_characters_are_cut(text: str, part: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_PART_BYTES", part)

        assert decode(ROOT, json.dumps({"model": text}, ensure_ascii=False).encode()).model == text


def test_a_bodys_fields_are_found_once_for_all() -> None:
    body, known = b'{"model": "a", "n": 1, "n": [2]}', TopFields()

    one, other = known.of(body), known.of(body)

    assert {name: bytes(value) for name, value in one.items()} == {"model": b'"a"', "n": b"[2]"}
    assert all(one[name] is other[name] for name in one)
    # Each has a dict of its own.
    one.clear()
    assert known.of(body) == other


def test_another_bodys_fields_are_its_own() -> None:
    known = TopFields()
    known.of(b'{"n": 1}')

    assert bytes(known.of(b'{"n": 2}')["n"]) == b"2"
