import pytest

from llmgateway.caller import ANYONE, Caller


def test_whoever_names_no_models_may_use_all() -> None:
    assert ANYONE.may_use("anything/at-all")


@pytest.mark.parametrize(
    ("pattern", "model", "may"),
    [
        ("*", "openai/gpt-4o", True),
        ("chat", "chat", True),
        ("chat", "chat-2", False),
        ("gpt-*", "gpt-4o", True),
        ("gpt-*", "azure/gpt-4o", False),
        ("gpt*", "gpt/4o", False),
        ("openai/*", "openai/gpt-4o", True),
        ("openai/*", "openai/ft/gpt-4o", True),
        ("openai/*", "gpt-4o", False),
        ("openai/gpt-*", "openai/o3", False),
        ("*/gpt-4o", "azure/gpt-4o", False),
        ("open*/x", "openai/x", False),
        ("anthropic/claude-*", "bedrock/anthropic/claude-3", False),
        ("GPT-*", "gpt-4o", False),
    ],
)
def test_pitfall_094_a_pattern_never_matches_across_a_prefix(pattern: str, model: str, *, may: bool) -> None:
    assert Caller(models=(pattern,)).may_use(model) is may


def test_without_a_pattern_nothing_is_allowed() -> None:
    assert not Caller(models=()).may_use("chat")


def test_a_caller_shows_no_key() -> None:
    caller = Caller(kind="provider", key_id="address_10.0.0.1", provider="openai", provider_key="sk-proj-secret")

    assert "secret" not in repr(caller)
    assert repr(caller) == "Caller(provider, address_10.0.0.1)"
