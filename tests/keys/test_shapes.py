import pytest

from llmgateway.catalog.providers import providers
from llmgateway.keys.hashing import new_key
from llmgateway.keys.shapes import _SHAPES, provider_of


@pytest.mark.parametrize(
    ("key", "provider"),
    [
        ("sk-ant-api03-abcdefgh-AA", "anthropic"),
        ("sk-or-v1-0123456789abcdef", "openrouter"),
        ("sk-proj-abc_DEF-123456", "openai"),
        ("sk-svcacct-abcdefgh", "openai"),
        ("sk-abcdefghijklmnopqrstT3BlbkFJabcdefghijklmnopqrst", "openai"),
        ("sk-0123456789abcdef0123456789abcdef", "deepseek"),
        ("gsk_abcdefgh12345678", "groq"),
        ("xai-abcdefgh12345678", "xai"),
        ("AIzaSyA-abcdefgh_12345678", "gemini"),
        ("pplx-abcdefgh12345678", "perplexity"),
    ],
)
def test_a_key_is_known_by_its_shape(key: str, provider: str) -> None:
    assert provider_of(key.encode()) == provider


@pytest.mark.parametrize(
    "key",
    ["", "sk-", "sk-ant-", "hello world", "sk-proj-a b c d e f g h", "Xai-abcdefgh1234", "x" * 40, "sk-" + "a" * 600],
)
def test_what_looks_like_nobodys_belongs_to_nobody(key: str) -> None:
    assert provider_of(key.encode()) is None


def test_bytes_that_are_no_text_belong_to_nobody() -> None:
    assert provider_of(b"sk-proj-\xff\xfe12345678") is None


def test_our_own_keys_are_no_providers() -> None:
    assert provider_of(new_key().encode()) is None


def test_every_provider_of_the_table_is_one_that_is_known() -> None:
    assert {provider for provider, _ in _SHAPES} <= set(providers())
