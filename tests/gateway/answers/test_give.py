import json

from llmgateway.exchange import Call, Complete, Exchange, Streamed, Usage
from llmgateway.gateway.answers.entry import Kept
from llmgateway.gateway.answers.give import give
from llmgateway.gateway.answers.replay import replay

BODY = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-4o-2024",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "one two three"}, "finish_reason": "stop"}
        ],
    },
    separators=(",", ":"),
).encode()
WHOLE = Kept(body=BODY, provider="main", upstream_model="gpt-4o", model="gpt-4o-2024", usage=Usage(1, 2))
ASKED, ASKED_STREAM = Call("chat", "chat", b"{}"), Call("chat", "chat", b"{}", stream=True)


async def test_a_hit_tells_who_answered_once_and_costs_nothing() -> None:
    exchange = Exchange()

    reply = await give(exchange, ASKED, WHOLE, "HIT", "exact")

    assert reply == Complete(BODY, model="gpt-4o-2024")
    assert (exchange.cache_status, exchange.cache_type) == ("HIT", "exact")
    assert (exchange.provider, exchange.upstream_model) == ("main", "gpt-4o")
    assert (exchange.usage, exchange.cost_usd) == (None, 0.0)
    assert [event.name for event in exchange.events] == ["cache_hit"]


async def test_a_stream_is_given_as_it_was_kept_and_can_be_heard() -> None:
    chunks = tuple(b'data: {"choices":[{"delta":{"content":"%d"}}]}\n\n' % n for n in range(40))

    reply = await give(Exchange(), ASKED_STREAM, Kept(chunks=chunks), "COALESCED", None)

    assert isinstance(reply, Streamed)
    assert reply.heard is not None
    assert reply.heard.text().startswith("0123")
    assert tuple([chunk async for chunk in reply.chunks]) == chunks
    await reply.chunks.aclose()


async def test_whole_and_stream_are_made_of_each_other() -> None:
    streamed = await give(Exchange(), ASKED_STREAM, WHOLE, "HIT", "exact")
    assert isinstance(streamed, Streamed)
    chunks = tuple([chunk async for chunk in streamed.chunks])
    assert chunks == replay(BODY, include_usage=False)

    reply = await give(Exchange(), ASKED, Kept(chunks=chunks, usage=Usage(1, 2)), "HIT", "exact")

    assert isinstance(reply, Complete)
    found = json.loads(reply.body)
    assert found.pop("usage")["total_tokens"] == 3
    assert found == json.loads(BODY)


async def test_what_cannot_be_had_in_this_form_leaves_no_trace() -> None:
    exchange = Exchange()

    assert await give(exchange, ASKED_STREAM, Kept(body=b'{"object":"list","data":[]}'), "HIT", "exact") is None
    assert await give(exchange, ASKED, Kept(chunks=(b"data: [DONE]\n\n",)), "HIT", "exact") is None
    assert (exchange.cache_status, exchange.cost_usd, exchange.events) == ("BYPASS", None, [])
