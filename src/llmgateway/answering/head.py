"""Heads of answers: what those of one shape have in common is written once."""

import re
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

from llmgateway.headers import write_lines

Header = tuple[bytes, bytes]

# What no header's name may hold (RFC 9110, 5.1): it would end the name, or the line.
_NO_NAME = re.compile(rb'[\x00-\x20\x7f()<>@,;:\[\]={}\\"]')
_CACHED_SHAPES = 256
_CACHED_BEGINNINGS = 16


class Shape(NamedTuple):
    """Heads that differ in their headers' values only.

    Args:
        template: The head without the blank line at its end; the values are to be put in.
        length_at: Which value says how long the body is; `None` is none.
        connection_at: Which values tell of the connection.
        frames: Which headers say how the body is framed, which is for the server to say.
    """

    template: bytes
    length_at: int | None
    connection_at: tuple[int, ...]
    frames: bool


@lru_cache(maxsize=_CACHED_SHAPES)
def shape_of(status: int, names: tuple[bytes, ...]) -> Shape:
    """Find what heads with these headers look like. Raises: RuntimeError: One is no header's name."""
    if any(map(_NO_NAME.search, names)):
        raise RuntimeError("a header's name holds a character that none may hold")
    names = tuple(name.lower() for name in names)
    lines = [_status_line(status), *(name.replace(b"%", b"%%") + b": %b" for name in names), b""]
    return Shape(
        template=b"\r\n".join(lines),
        length_at=names.index(b"content-length") if b"content-length" in names else None,
        connection_at=tuple(at for at, name in enumerate(names) if name == b"connection"),
        frames=b"transfer-encoding" in names,
    )


@lru_cache(maxsize=_CACHED_BEGINNINGS)
def beginning_of(status: int, *headers: Header) -> bytes:
    """Write how a head begins: with what the server says in every answer, the same for a second."""
    return b"%b\r\n%b" % (_status_line(status), write_lines(headers))


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return b"HTTP/1.1 %d %b" % (status, phrase.encode())
