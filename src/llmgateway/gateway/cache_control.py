"""What a client says of the cache, read from its request's headers."""

import math
from collections.abc import Mapping

from llmgateway.caller import CacheAsk
from llmgateway.errors import InvalidRequestError

CACHE_HEADERS = frozenset({b"cache-control", b"x-cache-ttl"})
_LONGEST_TTL_S = 30 * 86_400.0


def cache_ask(headers: Mapping[bytes, bytes]) -> CacheAsk | None:
    """Read `Cache-Control: no-cache | no-store` and `X-Cache-TTL`; `None` when neither says anything.

    Args:
        headers: By name in lower case. Directives that mean nothing here are passed over, as RFC 9111 has it.

    Raises:
        InvalidRequestError: `X-Cache-TTL` is no number of seconds, or none that is of use.
    """
    control, ttl = headers.get(b"cache-control"), headers.get(b"x-cache-ttl")
    if control is None and ttl is None:
        return None
    said = set() if control is None else {directive.strip().lower() for directive in control.split(b",")}
    no_cache, no_store = b"no-cache" in said, b"no-store" in said
    if ttl is None and not (no_cache or no_store):
        return None
    return CacheAsk(no_cache=no_cache, no_store=no_store, ttl_s=None if ttl is None else _ttl_s(ttl))


def _ttl_s(given: bytes) -> float:
    try:
        ttl_s = float(given)
    except ValueError:
        ttl_s = math.nan
    if not 0 < ttl_s <= _LONGEST_TTL_S:
        raise InvalidRequestError(
            f"X-Cache-TTL must be a number of seconds above 0 and up to {_LONGEST_TTL_S:.0f}, such as 600. "
            "To keep nothing, send `Cache-Control: no-store`.",
            param="X-Cache-TTL",
        )
    return ttl_s
