import pytest

from llmgateway.caller import CacheAsk
from llmgateway.errors import InvalidRequestError
from llmgateway.gateway.cache_control import cache_ask


def test_most_requests_say_nothing() -> None:
    assert cache_ask({}) is None
    assert cache_ask({b"cache-control": b"max-age=0, private"}) is None


@pytest.mark.parametrize("written", [b"no-cache", b"No-Cache", b" max-age=0 , no-cache"])
def test_no_cache_is_read_among_other_directives(written: bytes) -> None:
    assert cache_ask({b"cache-control": written}) == CacheAsk(no_cache=True)


def test_everything_may_come_together() -> None:
    asked = cache_ask({b"cache-control": b"no-cache,no-store", b"x-cache-ttl": b"1.5"})

    assert asked == CacheAsk(no_cache=True, no_store=True, ttl_s=1.5)


@pytest.mark.parametrize("written", [b"", b"0", b"-1", b"nan", b"inf", b"soon", b"9999999", b"\xff"])
def test_a_time_that_is_none_is_refused_with_what_would_be_right(written: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="number of seconds above 0") as caught:
        cache_ask({b"x-cache-ttl": written})

    assert caught.value.param == "X-Cache-TTL"
