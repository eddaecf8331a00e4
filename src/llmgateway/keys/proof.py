"""The key that a request presents, wherever its client puts it."""

from collections.abc import Iterable, Mapping

from llmgateway.errors import InvalidRequestError

_BEARER = b"authorization"
_PLAIN = (b"x-api-key", b"api-key", b"openai-api-key")
_PLACES = frozenset((_BEARER, *_PLAIN))
_SCHEME = b"bearer "


def read_proof(headers: Mapping[bytes, bytes]) -> bytes | None:
    """Read the key: of `Authorization: Bearer`, `X-API-Key`, `api-key` or `OpenAI-API-Key`; `None` when there is none.

    Args:
        headers: By their names in lower case.

    Raises:
        InvalidRequestError: Two different keys: whose request it is must not depend on the order of looking.
    """
    found: bytes | None = None
    bearer = headers.get(_BEARER)
    if bearer is not None and bearer[: len(_SCHEME)].lower() == _SCHEME:
        found = bearer[len(_SCHEME) :].strip() or None
    for place in _PLAIN:
        if place in headers and (key := headers[place].strip()):
            if found is not None and key != found:
                raise _several()
            found = key
    return found


def shows_another(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a key stands elsewhere than in `Authorization`."""
    return b"x-api-key" in headers or b"api-key" in headers or b"openai-api-key" in headers


def refuse_repeated(pairs: Iterable[tuple[bytes, bytes]]) -> None:
    """Refuse a request that has one of these headers twice, of which a mapping shows the last only.

    Raises:
        InvalidRequestError: It has, with different values.
    """
    seen: dict[bytes, bytes] = {}
    for name, value in pairs:
        if name in _PLACES and seen.setdefault(name, value) != value:
            raise _several()


def _several() -> InvalidRequestError:
    return InvalidRequestError(
        "The request carries different keys: send one, as `Authorization: Bearer …` or as `X-API-Key: …`.",
        param="Authorization",
    )
