import msgspec
import pytest

from llmgateway.exchange import Usage
from llmgateway.upstream.base import usage_of
from llmgateway.wire.answers import UsageFields


def read(text: str, service_tier: str | None = None) -> Usage | None:
    return usage_of(msgspec.json.decode(text, type=UsageFields), service_tier)


def test_openais_details_are_read() -> None:
    usage = read(
        """{"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 40, "cache_write_tokens": 10, "audio_tokens": 5, "image_tokens": 6},
        "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 7, "image_tokens": 8}}""",
        "flex",
    )

    assert usage == Usage(100, 50, 40, 20, 10, 0, 5, 7, 6, 8, "flex")


def test_anthropics_cache_writes_are_told_apart_by_how_long_they_last() -> None:
    split = '{"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 10}'
    usage = read(
        '{"prompt_tokens": 100, "service_tier": "batch", "prompt_tokens_details": '
        f'{{"cache_creation_tokens": 40, "cache_creation_token_details": {split}}}}}'
    )

    assert usage == Usage(100, cache_write_tokens=30, cache_write_1h_tokens=10, service_tier="batch")


@pytest.mark.parametrize("name", ["prompt_cache_hit_tokens", "cached_tokens"])
def test_deepseek_and_moonshot_tell_what_was_cached_by_a_name_of_their_own(name: str) -> None:
    assert read(f'{{"prompt_tokens": 9, "completion_tokens": 1, "{name}": 5}}') == Usage(9, 1, cached_tokens=5)


def test_xais_reasoning_is_counted_beside_the_completion_and_belongs_to_it() -> None:
    details = '"completion_tokens_details": {"reasoning_tokens": 20}'

    beside = read(f'{{"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 34, {details}}}')
    within = read(f'{{"prompt_tokens": 9, "completion_tokens": 25, "total_tokens": 34, {details}}}')

    assert beside == within == Usage(9, 25, reasoning_tokens=20)


@pytest.mark.parametrize("text", ["{}", '{"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}'])
def test_a_usage_of_nothing_is_none_at_all(text: str) -> None:
    assert read(text) is None
