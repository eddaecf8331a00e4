"""A client's body made ready for an upstream: values stay the bytes they were, only whole fields are set."""

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import msgspec

from llmgateway.wire.codec import FIELDS, Fields, TopFields

_JSON = msgspec.json.Encoder()
_KNOWN_MODELS = 4096
_WITH_USAGE = msgspec.Raw(b'{"include_usage":true}')


def rewrite(
    body: bytes,
    model: str,
    defaults: Mapping[str, Any],
    *,
    known: TopFields | None = None,
    renames: Mapping[str, str] = MappingProxyType({}),
    ask_usage: bool = False,
    drop_stream_options: bool = False,
) -> bytes:
    """Set `model`, add the defaults that the client left out, and ask a stream for its usage.

    It always encodes anew, so that a name given twice reaches the upstream once, with the value that was checked.

    Args:
        body: A JSON object, already checked.
        known: Where its fields are found, if it is a long one.
        renames: Fields that go out under another name, unless the client uses that one too.
        ask_usage: Set `stream_options.include_usage`, keeping the client's other stream options.
        drop_stream_options: Leave `stream_options` out, for a provider that refuses them.
    """
    fields = FIELDS.decode(body) if known is None else known.of(body)
    fields["model"] = _quoted(model)
    if defaults or renames:
        _fit(fields, defaults, renames)
    if drop_stream_options:
        fields.pop("stream_options", None)
    elif ask_usage:
        fields["stream_options"] = _asking_usage(fields.get("stream_options"))
    return _JSON.encode(fields)


def _fit(fields: Fields, defaults: Mapping[str, Any], renames: Mapping[str, str]) -> None:
    for name, value in defaults.items():
        if name not in fields:
            fields[name] = msgspec.Raw(_JSON.encode(value))
    for name, its_name in renames.items():
        if name in fields:
            fields.setdefault(its_name, fields.pop(name))


@lru_cache(maxsize=_KNOWN_MODELS)
def _quoted(model: str) -> msgspec.Raw:
    return msgspec.Raw(_JSON.encode(model))


def _asking_usage(options: msgspec.Raw | None) -> msgspec.Raw:
    if options is None or bytes(options) == b"null":
        return _WITH_USAGE
    fields = FIELDS.decode(options)
    fields["include_usage"] = msgspec.Raw(b"true")
    return msgspec.Raw(_JSON.encode(fields))
