"""What becomes of a conversation on its way to Anthropic: nothing is lost, nothing is invented."""

import json
import string
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.e2e.providers.conftest import Play
from tests.e2e.providers.played import tools, user
from tests.running import Running
from tests.upstreams.server import Player

Message = dict[str, Any]
NAMES = ["weather", "traffic"]

_words = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | _words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=3),
    max_leaves=6,
)
_ids = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=24).map("call_{}".format)


@st.composite
def _conversations(draw: st.DrawFn) -> list[Message]:
    """Rounds of question, tool calls with their results, and answer; then a last question."""
    messages: list[Message] = []
    ids = iter(draw(st.lists(_ids, min_size=12, max_size=12, unique=True)))
    for _ in range(draw(st.integers(1, 3))):
        messages += user(draw(_words))
        calls = [
            {"id": next(ids), "name": draw(st.sampled_from(NAMES)), "arguments": draw(st.dictionaries(_words, _values))}
            for _ in range(draw(st.integers(0, 3)))
        ]
        if calls:
            messages.append({"role": "assistant", "calls": calls})
            messages += [{"role": "tool", "id": call["id"], "content": draw(_words)} for call in calls]
        messages.append({"role": "assistant", "content": draw(_words)})
    return [*messages, *user(draw(_words))]


def _as_openai(message: Message) -> Message:
    """Write one of these messages as the SDK would send it."""
    if message["role"] == "tool":
        return {"role": "tool", "tool_call_id": message["id"], "content": message["content"]}
    if "calls" not in message:
        return message
    calls = [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])},
        }
        for call in message["calls"]
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def _blocks(message: Message) -> list[Message]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _result_text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def _read_back(body: dict[str, Any]) -> list[Message]:
    """Read what the provider got as the messages it was made from."""
    found: list[Message] = []
    for message in body["messages"]:
        calls = []
        for block in _blocks(message):
            if block["type"] == "text":
                found.append({"role": message["role"], "content": block["text"]})
            elif block["type"] == "tool_use":
                calls.append({"id": block["id"], "name": block["name"], "arguments": block["input"]})
            else:
                text = _result_text(block["content"])
                found.append({"role": "tool", "id": block["tool_use_id"], "content": text})
        if calls:
            found.append({"role": "assistant", "calls": calls})
    return found


@pytest.fixture
async def anthropic(play: Play) -> tuple[Running, Player]:
    return await play("anthropic")


@pytest.mark.timeout(120)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(messages=_conversations())
async def test_pitfall_046_a_conversation_with_tools_survives_the_translation(
    anthropic: tuple[Running, Player], messages: list[Message]
) -> None:
    gateway, player = anthropic
    body = {"model": "chat", "messages": list(map(_as_openai, messages)), "tools": tools(*NAMES)}
    answer = await gateway.client.post("/v1/chat/completions", json=body)

    assert answer.status_code == 200
    assert _read_back(player.last.json) == messages


async def test_system_and_developer_messages_become_the_system_prompt(play: Play) -> None:
    gateway, player = await play("anthropic")
    await gateway.openai.chat.completions.create(
        model="chat",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "developer", "content": "Be kind."}, *user("x")],
    )

    assert "Be brief." in json.dumps(player.last.json["system"])
    assert "Be kind." in json.dumps(player.last.json["system"])
    assert [message["role"] for message in player.last.json["messages"]] == ["user"]


async def test_stop_words_and_sampling_arrive_under_anthropics_names(play: Play) -> None:
    gateway, player = await play("anthropic")
    await gateway.openai.chat.completions.create(
        model="chat", messages=user("x"), stop=["END", "STOP"], temperature=0.25, max_completion_tokens=17
    )

    assert player.last.json["stop_sequences"] == ["END", "STOP"]
    assert player.last.json["temperature"] == 0.25
    assert player.last.json["max_tokens"] == 17


async def test_marks_for_the_prompt_cache_are_kept(play: Play) -> None:
    gateway, player = await play("anthropic")
    part: dict[str, Any] = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
    await gateway.openai.chat.completions.create(model="chat", messages=user([part, {"type": "text", "text": "x"}]))

    assert player.last.json["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral"}
