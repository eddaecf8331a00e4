import json
import re
from typing import Any

import pytest

from llmgateway.exchange import Call, Usage
from llmgateway.upstream.litellm.answers import ChunkWriter, whole_answer
from llmgateway.upstream.litellm.pieces import Piece, Tool
from tests.upstream.translated import calls_of, deltas, parse

CHAT = Call("chat", "m", b"{}", stream=True)
COUNTED = Call("chat", "m", b"{}", stream=True, include_usage=True)


def written(*pieces: Piece, call: Call = CHAT) -> list[dict[str, Any]]:
    writer = ChunkWriter(call, "model-1")
    return parse(b"".join(map(writer.write, pieces)) + writer.finish())


def test_a_piece_that_says_nothing_only_opens_the_stream() -> None:
    found = written(Piece(), Piece(), Piece(content=""), Piece(content="x"))

    assert deltas(found) == [{"role": "assistant", "content": ""}, {"content": "x"}, {}]


def test_a_stream_with_no_piece_ends_all_the_same() -> None:
    assert written() == []


def test_each_choice_has_its_own_role_and_reason() -> None:
    found = written(Piece(choice=1, content="b"), Piece(choice=0, content="a", finish="length"), Piece(choice=1))

    assert [chunk["choices"][0]["index"] for chunk in found] == [1, 0, 0, 1]
    assert [chunk["choices"][0]["finish_reason"] for chunk in found] == [None, None, "length", "stop"]
    assert [delta.get("role") for delta in deltas(found)] == ["assistant", "assistant", None, None]


@pytest.mark.parametrize("call", [CHAT, COUNTED, Call("completion", "m", b"{}", stream=True)])
def test_text_alone_is_written_as_any_piece_is_to_the_byte(call: Call) -> None:
    texts = ["first", "a", 'é 🎉 "\\\n', "\x7f\u2028"]
    fast, slow = (ChunkWriter(call, "model-1") for _ in range(2))
    short = [*map(fast.text, texts), fast.finish()]
    long = [*(slow.write(Piece(content=text)) for text in texts), slow.finish()]

    assert [_without_id(chunk) for chunk in short] == [_without_id(chunk) for chunk in long]


def _without_id(chunks: bytes) -> bytes:
    return re.sub(rb'"id":"[^"]+"|"created":\d+', b"", chunks)


@pytest.mark.parametrize(
    ("said", "reason"), [(["stop", "length"], "length"), (["load"], "stop"), (["tool_calls"], "stop"), ([None], "stop")]
)
def test_the_last_reason_counts_and_an_unknown_one_is_stop(said: list[str | None], reason: str) -> None:
    found = written(*(Piece(content="a", finish=one) for one in said))

    assert found[-1]["choices"][0]["finish_reason"] == reason


@pytest.mark.parametrize("number", [-1, 0, 3, None])
def test_pitfall_044_calls_without_a_useful_number_are_told_apart_by_their_ids(number: int | None) -> None:
    found = written(
        Piece(tools=[Tool(number, "a", "one", "{"), Tool(number, "b", "two", "{}")]),
        Piece(tools=[Tool(number, "a", None, "}")]),
    )

    assert calls_of(found) == [
        {"id": "a", "name": "one", "arguments": "{}"},
        {"id": "b", "name": "two", "arguments": "{}"},
    ]


def test_pitfall_044_a_call_without_an_id_gets_one() -> None:
    found = written(
        Piece(tools=[Tool(4, None, "one", "")]), Piece(tools=[Tool(4, None, None, "{}")]), Piece(finish="stop")
    )

    [made] = calls_of(found)
    assert made["id"].startswith("call_")
    assert made["arguments"] == "{}"
    assert found[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_client_that_asked_for_usage_gets_it_even_when_the_provider_counts_nothing() -> None:
    assert written(Piece(content="x"), call=COUNTED)[-1]["usage"]["total_tokens"] == 0


def test_a_whole_answer_keeps_what_the_provider_adds() -> None:
    pieces = [
        Piece(
            content="",
            reasoning="hm",
            tools=[Tool(0, None, "one", "{}")],
            more={"annotations": [{"type": "url_citation"}]},
            usage={"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
            model="reported",
        )
    ]
    answer = whole_answer(pieces, CHAT, "model-1")
    [choice] = json.loads(answer.body)["choices"]

    assert choice["message"]["content"] is None
    assert choice["message"]["reasoning_content"] == "hm"
    assert choice["message"]["annotations"] == [{"type": "url_citation"}]
    assert choice["message"]["tool_calls"][0]["id"].startswith("call_")
    assert choice["finish_reason"] == "tool_calls"
    assert (answer.model, answer.usage) == ("reported", Usage(5, 2, cached_tokens=4))


def test_a_whole_answer_without_usage_says_so_by_zeros() -> None:
    answer = whole_answer([Piece(content="x")], CHAT, "model-1")

    assert answer.usage is None
    assert json.loads(answer.body)["usage"]["total_tokens"] == 0
