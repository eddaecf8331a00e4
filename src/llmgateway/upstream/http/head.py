"""Heads as bytes: the request's, written once for all that are alike, and the answer's, read only where it is asked."""

import re
from functools import lru_cache
from typing import NamedTuple

from multidict import CIMultiDict
from yarl import URL

from llmgateway.upstream.http.failures import NotAnAddressError

Fields = tuple[tuple[str, str], ...]
# Of one answer, with the provisional ones before it.
MAX_HEAD_BYTES = 32 * 1024
_CACHED_HEADS = 4096
# Lines that say nothing of how the body is framed or packed, nor of what becomes of the connection (RFC 9110, 5.6.2).
# What is taken of a line is not given back, for a long head would be tried again at each byte; groups of lines are, for
# Python 3.11.2 finds nothing otherwise.
_PLAIN_LINES = (
    rb"(?:\r\n(?![CcTtUuPp](?i:ontent-(?:length|encoding)|ransfer-encoding|pgrade|roxy-|onnection(?!: keep-alive\r)))"
    rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~]*+)*"
)
_PLAIN_HEAD = re.compile(
    rb"HTTP/1\.1 200 [ -~]*+%b\r\n(?i:content-length): ?([0-9]{1,9})%b\r\n\r\n" % (_PLAIN_LINES, _PLAIN_LINES)
)


class Origin(NamedTuple):
    """Whom a connection leads to."""

    host: str
    port: int
    is_secure: bool


class RequestHead(NamedTuple):
    """A request's head up to the number of its Content-Length, and where it goes."""

    start: bytes
    origin: Origin


@lru_cache(maxsize=_CACHED_HEADS)
def request_head(method: str, url: URL, defaults: Fields, own: Fields) -> RequestHead:
    """Write what all requests alike have in common.

    Args:
        own: These replace the defaults of the same name.

    Raises:
        NotAnAddressError: There is no host, it is not HTTP, or a header would not stay one line.
    """
    if not url.raw_host or url.port is None or url.scheme not in {"http", "https"}:
        raise NotAnAddressError("no host, or not HTTP")
    fields = CIMultiDict(defaults)
    fields.update(own)
    if "Content-Length" in fields or "Transfer-Encoding" in fields:
        raise NotAnAddressError("an account's headers say how long a body is")
    fields["Host"] = url.host_port_subcomponent or ""
    lines = [f"{method} {url.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if any(char in line for line in lines for char in "\r\n\0"):
        raise NotAnAddressError("a header holds a line break")
    try:
        start = "\r\n".join([*lines, "Content-Length: "]).encode()
    except UnicodeEncodeError:
        raise NotAnAddressError("a header is no text") from None
    return RequestHead(start, Origin(url.raw_host, url.port, url.scheme == "https"))


def read_fields(head: bytes) -> CIMultiDict[str]:
    """Read the fields of an answer's head, which a parser has found to be well-formed.

    Bytes that are not UTF-8 become surrogates (PEP 383).
    """
    fields = CIMultiDict[str]()
    for line in head.decode("utf-8", "surrogateescape").split("\r\n")[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields.add(name, value.strip(" \t"))
    return fields


def end_of_whole(data: bytes) -> int:
    """Find the end of the head of an answer that has come whole; 0 is anything else, for a parser to read.

    It is so only with status 200, one declared length, and a head that is not too long and of which there are no two
    opinions.
    """
    found = _PLAIN_HEAD.match(data, 0, MAX_HEAD_BYTES)
    if found is None:
        return 0
    end = found.end()
    return end if end + int(found[1]) == len(data) else 0


def pattern_of(names: bytes) -> re.Pattern[bytes]:
    """Make what `Response.fields` looks for out of an expression for names."""
    return re.compile(rb"\r\n((?i:%b)):[ \t]*([^\r]*)" % names)


def field(lowered: bytes, name: bytes) -> bytes | None:
    """Find the first field of a name in a head in lower case; its value is in lower case likewise."""
    at = lowered.find(b"\r\n%b:" % name)
    if at < 0:
        return None
    start = at + len(name) + 3
    return lowered[start : lowered.find(b"\r\n", start)].strip(b" \t")
