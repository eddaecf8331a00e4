"""The texts within the body of a call: all of them to be looked at, and those that may be rewritten."""

import re
from collections.abc import Callable
from typing import Any

import msgspec

# What no expression and no word reaches across.
_APART = "\n\x00\n"
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_JSON = msgspec.json.Encoder()
_MEDIA = re.compile(r"data:[\w.+-]{1,100}/[\w.+-]{1,100}")
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_TEXTS = ("content", "text", "refusal", "reasoning_content", "reasoning", "thinking")

# Gives a text as it is to go out; the second argument says that it is JSON itself, as a tool call's arguments are.
Replace = Callable[[str, bool], str]


def texts_of(body: bytes) -> str:
    """Give every text and every name in a body, whatever field it is in: all of it goes to the provider."""
    try:
        left: list[Any] = [msgspec.json.decode(body)]
    except _UNREADABLE:
        return body.decode(errors="replace")
    found: list[str] = []
    while left:
        match left.pop():
            case str() as text:
                if not _is_image(text):
                    found.append(text)
            case dict() as fields:
                found += fields
                left += reversed(fields.values())
            case list() as items:
                left += reversed(items)
            case _:
                pass
    return _APART.join(found)


def wants_json(body: bytes) -> bool:
    """Whether the answer's text is to be JSON."""
    if b"response_format" not in body:
        return False
    try:
        wanted = msgspec.json.decode(body).get("response_format")
    except _UNREADABLE:
        return False
    return isinstance(wanted, dict) and wanted.get("type") in {"json_object", "json_schema"}


def rewritten(body: bytes, replace: Replace) -> bytes:
    """Replace the texts of messages, tool results, arguments of tool calls, prompts and inputs; nothing else changes.

    Raises:
        ValueError: The body is no JSON object.
    """
    try:
        fields = _FIELDS.decode(body)
        changed = False
        for name in ("messages", "prompt", "input"):
            if name in fields:
                new = _list(fields[name], replace)
                changed = changed or new is not fields[name]
                fields[name] = new
    except _UNREADABLE:
        raise ValueError("the body is no JSON object") from None
    return _JSON.encode(fields) if changed else body


def _is_image(text: str) -> bool:
    if not text.startswith("data:") or not text.isascii():
        return False
    head, comma, content = text.partition(";base64,")
    # Whatever else stands there is a text that only begins like an image.
    return bool(comma) and _MEDIA.fullmatch(head) is not None and not content.encode().translate(None, _BASE64)


def _kind(raw: msgspec.Raw) -> bytes:
    return bytes(raw)[:1]


def _text(raw: msgspec.Raw, replace: Replace, is_json: bool) -> msgspec.Raw:
    text = msgspec.json.decode(raw, type=str)
    new = replace(text, is_json)
    return raw if new == text else msgspec.Raw(_JSON.encode(new))


def _list(raw: msgspec.Raw, replace: Replace) -> msgspec.Raw:
    """Rewrite a text, an object with texts, or a list of these."""
    kind = _kind(raw)
    if kind == b'"':
        return _text(raw, replace, is_json=False)
    if kind == b"{":
        return _object(raw, replace)
    if kind != b"[":
        return raw
    items = _ITEMS.decode(raw)
    new = [_list(item, replace) for item in items]
    return raw if all(a is b for a, b in zip(items, new, strict=True)) else msgspec.Raw(_JSON.encode(new))


def _object(raw: msgspec.Raw, replace: Replace) -> msgspec.Raw:
    """Rewrite a message, a part of its content, or a tool call."""
    fields = _FIELDS.decode(raw)
    new = dict(fields)
    for name, value in fields.items():
        if name in _TEXTS or name == "tool_calls":
            new[name] = _list(value, replace)
        elif name in {"function", "function_call"} and _kind(value) == b"{":
            new[name] = _object(value, replace)
        elif name == "arguments" and _kind(value) == b'"':
            new[name] = _text(value, replace, is_json=True)
    return raw if all(new[name] is value for name, value in fields.items()) else msgspec.Raw(_JSON.encode(new))
