from typing import Any

import msgspec
import pytest

from llmgateway.catalog.model import Account, Deployment
from llmgateway.exchange import Call
from llmgateway.routing.failover.continuing import continued, continues_exactly, may_continue, wants_json

QUESTION = {"role": "user", "content": "Tell me"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def call(**fields: Any) -> Call:
    body = msgspec.json.encode({"model": "chat", "stream": True, "messages": [QUESTION], **fields})
    return Call("chat", "chat", body, stream=True, max_tokens=fields.get("max_tokens"), n=fields.get("n", 1))


def deployment(provider: str = "openai", model: str = "gpt-4o", **fields: Any) -> Deployment:
    return Deployment(Account("main", provider, "openai"), model, **fields)


def body(asked: Call) -> dict[str, Any]:
    return msgspec.json.decode(asked.body, type=dict[str, Any])


def test_by_instruction_the_text_so_far_is_followed_by_a_message_that_asks_for_the_rest() -> None:
    messages = body(continued(call(), "Once upon ", deployment()))["messages"]

    assert messages[:2] == [QUESTION, {"role": "assistant", "content": "Once upon"}]
    assert messages[2]["role"] == "user"
    assert "Repeat nothing" in messages[2]["content"]


@pytest.mark.parametrize("provider", ["mistral", "codestral"])
def test_mistral_takes_a_prefix_by_its_own_field_and_sends_it_again(provider: str) -> None:
    there = deployment(provider, "mistral-large-latest")

    messages = body(continued(call(), "Once upon ", there))["messages"]

    assert messages == [QUESTION, {"role": "assistant", "content": "Once upon", "prefix": True}]
    assert not continues_exactly(call(), there)


@pytest.mark.parametrize("provider", ["vllm", "hosted_vllm"])
def test_vllm_goes_on_with_the_final_message(provider: str) -> None:
    asked = body(continued(call(), "Once upon", deployment(provider, "qwen")))

    assert asked["messages"] == [QUESTION, {"role": "assistant", "content": "Once upon"}]
    assert (asked["continue_final_message"], asked["add_generation_prompt"]) == (True, False)
    assert continues_exactly(call(), deployment(provider, "qwen"))


@pytest.mark.parametrize(
    ("provider", "model", "as_prefix"),
    [
        ("ollama", "llama3", True),
        ("ollama_chat", "llama3", True),
        ("anthropic", "claude-3-5-sonnet-20241022", True),
        ("anthropic", "claude-2.1", True),
        ("anthropic", "claude-opus-4-1-20250805", True),
        ("anthropic", "claude-sonnet-4-20250514", True),
        ("anthropic", "claude-haiku-4-5", True),
        ("anthropic", "claude-sonnet-4-6", False),
        ("anthropic", "claude-opus-4-6-20260205", False),
        ("anthropic", "claude-opus-5", False),
        ("anthropic", "claude-new", False),
        ("deepseek", "deepseek-chat", False),
        ("groq", "llama-3.3-70b-versatile", False),
        ("gemini", "gemini-2.5-pro", False),
        ("openrouter", "anthropic/claude-3.5-sonnet", False),
    ],
)
def test_who_goes_on_with_the_last_message(provider: str, model: str, *, as_prefix: bool) -> None:
    there = deployment(provider, model)

    messages = body(continued(call(), "Once upon", there))["messages"]

    assert (len(messages) == 2) is as_prefix
    assert continues_exactly(call(), there) is as_prefix


@pytest.mark.parametrize("fields", [{"thinking": {"type": "enabled"}}, {"reasoning_effort": "low"}])
def test_a_claude_that_thinks_is_asked_by_instruction(fields: dict[str, Any]) -> None:
    claude = deployment("anthropic", "claude-sonnet-4-5")
    thinking = deployment("anthropic", "claude-sonnet-4-5", defaults=fields)

    assert len(body(continued(call(**fields), "Once", claude))["messages"]) == 3
    assert len(body(continued(call(), "Once", thinking))["messages"]) == 3


@pytest.mark.parametrize("provider", ["openai", "mistral", "vllm"])
def test_json_is_gone_on_with_by_instruction_and_without_a_grammar_of_its_own(provider: str) -> None:
    format_ = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}

    asked = body(continued(call(response_format=format_), '{"city": "Ro', deployment(provider)))

    assert "response_format" not in asked
    assert asked["messages"][-1]["role"] == "user"
    assert msgspec.json.encode(SCHEMA).decode() in asked["messages"][-1]["content"]
    assert wants_json(call(response_format=format_))
    assert wants_json(call(response_format={"type": "json_object"}))
    assert not wants_json(call(response_format={"type": "text"}))
    assert not wants_json(call())


def test_the_longest_answer_is_shortened_by_what_was_said() -> None:
    said = "x" * 40

    asked = continued(call(max_tokens=30), said, deployment())
    assert (body(asked)["max_tokens"], asked.max_tokens) == (20, 20)
    assert body(continued(call(max_completion_tokens=4), said, deployment()))["max_completion_tokens"] == 1
    assert body(continued(call(), said, deployment(defaults={"max_tokens": 50})))["max_tokens"] == 40
    unlimited = continued(call(), said, deployment())
    assert "max_tokens" not in body(unlimited)
    assert unlimited.max_tokens is None


@pytest.mark.parametrize("said", ["", " \n"])
def test_with_nothing_said_the_call_is_as_it_was(said: str) -> None:
    asked = call()

    assert continued(asked, said, deployment("mistral")) is asked


def test_all_other_fields_stay_the_bytes_they_were() -> None:
    asked = Call("chat", "chat", b'{"model":"chat","messages":[{"role":"user", "content":"\\u00e9"}],"seed": 1e3}')

    assert b'"seed":1e3' in continued(asked, "x", deployment()).body
    assert b'{"role":"user", "content":"\\u00e9"}' in continued(asked, "x", deployment()).body


@pytest.mark.parametrize(
    "fields", [{"n": 2}, {"logprobs": True}, {"modalities": ["text", "audio"]}, {"audio": {"voice": "alloy"}}]
)
def test_what_cannot_be_one_text_is_not_gone_on_with(fields: dict[str, Any]) -> None:
    assert not may_continue(call(**fields))


def test_text_is_gone_on_with() -> None:
    assert may_continue(call())
    assert may_continue(call(logprobs=False, modalities=["text"], audio=None, tools=[{"type": "function"}]))
    assert not may_continue(Call("completion", "m", b"{}", stream=True))
