import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.catalog.model import Account
from llmgateway.upstream.scrub import MAX_MESSAGE_CHARS, scrub

SECRET = "wJalr/XUtnFEMI+K7MDENG=="  # noqa: S105  made up
ACCOUNT = Account(
    name="main",
    provider="openai",
    wire="openai",
    api_key="zeta-plain-key-0042",
    api_base="http://vllm-box:8000/v1",
    options={
        "aws_secret_access_key": SECRET,
        "vertex_credentials": '{"client_email": "bot@project.example", "private_key": "very\\nprivate\\nmaterial"}',
        "nested": {"list": ["inner-secret-value", 7]},
        "short": "eu",
    },
)


@pytest.mark.parametrize(
    "secret",
    [
        "zeta-plain-key-0042",
        SECRET,
        "wJalr%2FXUtnFEMI%2BK7MDENG%3D%3D",
        "very\nprivate\nmaterial",
        "very\\nprivate\\nmaterial",
        "inner-secret-value",
        "sk-proj-abcDEF0123456789",
        "sk-ant-api03-abcdefgh",
        "sk-abcd****************wxyz",
        "gsk_abcdefgh12345678",
        "xai-abcdefgh12345678",
        "AIzaSyA1234567890abcdefghijklmn",
        "AKIAIOSFODNN7EXAMPLE",
        "Bearer abcdefgh.ijkl",
        "ya29.a0AfH6SNabcdef",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.abc",
        "hf_abcdefghijk",
        "org-AbCdEfGh12345678",
        "0123456789abcdef0123456789abcdef",
        "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----",
    ],
)
def test_pitfall_099_no_key_is_left_in_a_text(secret: str) -> None:
    cleaned = scrub(f"Incorrect API key provided: {secret}, see the manual", ACCOUNT)

    assert secret not in cleaned
    assert cleaned.startswith("Incorrect API key provided: [key removed]")
    assert cleaned.endswith("see the manual")


@pytest.mark.parametrize(
    "address",
    [
        "https://platform.openai.com/account/api-keys",
        "http://vllm-box:8000/v1/chat",
        "vllm-box:8000",
        "vllm-box",
        "10.0.12.7",
        "10.0.12.7:8000",
        "[::1]:8000",
        "fe80::1%eth0",
        "2001:db8::7",
        "localhost:11434",
        "ollama:11434",
        "llm-1.prod.internal",
        "llm.svc.cluster.local:80",
        "bedrock-runtime.us-east-1.amazonaws.com",
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/x",
        "bot@project.iam.gserviceaccount.com",
        "redis://user:pass@cache:6379/0",
    ],
)
def test_no_address_is_left_in_a_text(address: str) -> None:
    assert scrub(f"Cannot reach {address} now", ACCOUNT) == "Cannot reach [address removed] now"


@pytest.mark.parametrize(
    "text",
    [
        "The model `gpt-4.1-mini` does not exist, e.g. try claude-3.5-sonnet.",
        "anthropic.claude-3-5-sonnet-20240629-v1:0 and llama3.1:70b",
        "messages.0.content.1: text is required at 12:30:45",
        "max_tokens: 4096 > 2048 (std::string)",
        "Limit 30000, Used 29000, Requested 2000. Please try again in 6.5s.",
        "Größe überschritten: 数据 🎉",
        "region eu",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert scrub(text, ACCOUNT) == text


@given(st.text(max_size=50), st.text(max_size=50))
def test_the_accounts_key_never_survives_whatever_is_around_it(before: str, after: str) -> None:
    assert ACCOUNT.api_key is not None
    assert ACCOUNT.api_key not in scrub(before + ACCOUNT.api_key + after, ACCOUNT)


def test_a_text_is_cut_and_no_half_key_is_left_at_the_cut() -> None:
    assert len(scrub("word " * 10_000, ACCOUNT)) <= MAX_MESSAGE_CHARS
    key = "sk-" + "a" * 60
    for padding in range(15_930, 16_010):
        assert "aaaaaaaa" not in scrub("x " * (padding // 2) + key, ACCOUNT)


def test_no_stack_trace_is_left() -> None:
    text = 'It broke.\nTraceback (most recent call last):\n  File "/srv/model.py", line 1\nKeyError'
    assert scrub(text, ACCOUNT) == "It broke."


def test_one_endless_word_is_left_out() -> None:
    assert scrub("a" * 100_000, ACCOUNT) == ""


def test_an_account_without_secrets_cleans_all_the_same() -> None:
    assert scrub("at 10.0.0.1", Account(name="x", provider="ollama", wire="litellm")) == "at [address removed]"
