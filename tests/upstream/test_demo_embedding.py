import base64
import json
import math
import struct
from typing import Any

import pytest

from llmgateway.catalog.model import Account, Deployment
from llmgateway.errors import InvalidRequestError
from llmgateway.exchange import Call, Complete
from llmgateway.upstream.demo import DemoUpstream
from llmgateway.upstream.demo_embedding import unit_vector

ECHO = Deployment(Account(name="demo", provider="demo", wire="demo"), "echo")


async def embed(**body: Any) -> dict[str, Any]:
    request = Call(operation="embedding", model="demo/echo", body=json.dumps(body).encode())
    reply = await DemoUpstream().send(ECHO, request)
    assert isinstance(reply, Complete)
    assert reply.usage is not None
    answer: dict[str, Any] = json.loads(reply.body)
    assert reply.usage.prompt_tokens == answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"]
    return answer


async def test_an_embedding_is_a_unit_vector_and_the_same_every_time() -> None:
    first, second = await embed(input="The ship sank."), await embed(input="The ship sank.")

    vector = first["data"][0]["embedding"]
    assert len(vector) == 256
    assert math.isclose(sum(value * value for value in vector), 1)
    assert first == second
    assert first["system_fingerprint"] == "demo"


async def test_texts_with_the_same_words_are_nearer() -> None:
    answer = await embed(input=["the ship sank at sea", "at sea the ship sank fast", "interest rates rose again"])

    ship, also_ship, rates = (item["embedding"] for item in answer["data"])

    def near(other: list[float]) -> float:
        return math.fsum(a * b for a, b in zip(ship, other, strict=True))

    assert near(also_ship) > 0.8
    assert near(rates) < 0.3
    assert [item["index"] for item in answer["data"]] == [0, 1, 2]


async def test_dimensions_are_honoured() -> None:
    answer = await embed(input="ship", dimensions=8)

    assert len(answer["data"][0]["embedding"]) == 8


async def test_base64_holds_the_same_numbers_as_little_endian_floats() -> None:
    plain = (await embed(input="ship sea"))["data"][0]["embedding"]
    packed = (await embed(input="ship sea", encoding_format="base64"))["data"][0]["embedding"]

    assert struct.unpack("<256f", base64.b64decode(packed)) == pytest.approx(plain)


async def test_tokens_are_taken_as_they_are() -> None:
    one = await embed(input=[1, 2, 3])
    two = await embed(input=[[1, 2, 3], [4]])

    assert one["usage"]["prompt_tokens"] == 3
    assert len(one["data"]) == 1
    assert len(two["data"]) == 2
    assert one["data"][0]["embedding"] == two["data"][0]["embedding"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": ""}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 5]}, "input[1]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
        ({"input": "a", "dimensions": True}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ],
)
async def test_a_wrong_field_is_refused_with_its_path(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await embed(**body)

    assert refused.value.param == param


def test_a_text_without_words_has_a_direction_too() -> None:
    assert unit_vector([], 3) == [1.0, 0.0, 0.0]
