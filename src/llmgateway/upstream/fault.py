"""The shapes in which providers report a failure, read into one."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

_MAX_BODY_BYTES = 1_000_000
_MARKUP = ("<!doctype", "<html", "<?xml", "<head")
# Names that say no more than "an error".
_EMPTY_KINDS = frozenset({"invalid_request_error", "error"})


@dataclass(frozen=True, slots=True)
class Fault:
    """What a provider says about its failure, in whatever shape it says it.

    Args:
        kinds: Its type, code, status name and reasons, as sent.
        status: An HTTP status that the body itself names.
        retry_after_s: A wait that the body itself names.
    """

    message: str = ""
    kinds: tuple[str, ...] = ()
    code: str | None = None
    param: str | None = None
    status: int | None = None
    retry_after_s: float | None = None

    def is_one_of(self, kinds: frozenset[str]) -> bool:
        """Tell whether one of its names is among these, which are in lower case."""
        return any(kind.lower() in kinds for kind in self.kinds)

    def says(self, words: tuple[str, ...]) -> bool:
        """Tell whether its message holds one of these phrases, which are in lower case."""
        text = self.message.lower()
        return any(phrase in text for phrase in words)


def read_fault(body: bytes, headers: Mapping[str, str]) -> Fault:
    """Read a failed answer's body, whatever it is: JSON, text or a web page."""
    root = decoded(body)
    if isinstance(root, list) and root:  # Gemini's streams send errors in a list
        root = root[0]
    if isinstance(root, dict):
        fault = fault_of(root)
    elif isinstance(root, str):
        fault = Fault(message=root)
    else:
        fault = Fault(message=_plain(body))
    amazon = headers.get("x-amzn-errortype")
    if amazon:
        fault = replace(fault, kinds=(*fault.kinds, amazon.partition(":")[0]))
    return fault


def decoded(body: bytes) -> Any:
    """Decode JSON; `None` when it is none, or far too long for an error."""
    if len(body) > _MAX_BODY_BYTES:
        return None
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _plain(body: bytes) -> str:
    text = body[:_MAX_BODY_BYTES].decode("utf-8", "replace").strip()
    return "" if text.lower().startswith(_MARKUP) else text


def fault_of(root: dict[str, Any]) -> Fault:
    """Read OpenAI's, Anthropic's, Gemini's, Cohere's, Amazon's, FastAPI's and simpler shapes."""
    error = root.get("error")
    inner = error if isinstance(error, dict) else root
    message = error if isinstance(error, str) else _message(inner)
    details = [detail for detail in _list(inner.get("details")) if isinstance(detail, dict)]
    code = _text(inner.get("code"))
    kinds = (
        *(_text(inner.get(name)) for name in ("code", "type", "status", "__type", "error_type")),
        *(_text(detail.get("reason")) for detail in details),
        *("moderation" for _ in _list(_dict(inner.get("metadata")).get("reasons"))[:1]),  # OpenRouter
    )
    found = tuple(kind.rpartition("#")[2] for kind in kinds if kind)
    return Fault(
        message=message,
        kinds=found,
        code=code or next((kind for kind in found if kind.lower() not in _EMPTY_KINDS), None),
        param=_text(inner.get("param")) or _field(inner),
        status=_error_status(inner.get("code")) or _error_status(inner.get("status")),
        retry_after_s=next((wait for detail in details if (wait := _retry_delay_s(detail)) is not None), None),
    )


def _message(inner: dict[str, Any]) -> str:
    for name in ("message", "Message", "error_message", "msg", "detail", "errors"):
        value = inner.get(name)
        if isinstance(value, str) and value:
            return value
        if isinstance(value, dict) and _text(value.get("message")):
            return str(value["message"])
        if isinstance(value, list) and value:
            return "; ".join(filter(None, map(_line, value)))
    return ""


def _line(item: object) -> str:
    """One of FastAPI's `{loc, msg}`, of Cloudflare's `{code, message}`, or a sentence."""
    if not isinstance(item, dict):
        return str(item)
    said = _text(item.get("msg")) or _text(item.get("message")) or ""
    place = _path(item.get("loc"))
    return f"{place}: {said}" if place else said


def _field(inner: dict[str, Any]) -> str | None:
    first = next(iter(_list(inner.get("detail"))), None)
    return _path(first.get("loc")) if isinstance(first, dict) else None


def _path(loc: object) -> str | None:
    parts = [part for part in _list(loc) if part != "body"]
    return ".".join(map(str, parts)) or None


def _retry_delay_s(detail: dict[str, Any]) -> float | None:
    """Read Google's `RetryInfo`, such as `{"retryDelay": "34.5s"}`."""
    delay = _text(detail.get("retryDelay"))
    return as_number(delay.removesuffix("s")) if delay else None


def _error_status(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"[45]\d\d", value):
        value = int(value)
    return value if isinstance(value, int) and 400 <= value < 600 else None  # noqa: PLR2004  the error statuses


def as_number(text: str | None) -> float | None:
    """Read a finite number, at least 0; `None` when there is none."""
    try:
        number = float(text) if text else math.nan
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
