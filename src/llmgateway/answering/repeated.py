"""Requests of one client on one connection: their heads are alike but for the body's length, and parsed once."""

import re
from typing import Any, Self

from msgspec import Struct

from llmgateway.answering.head import Header

_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ([0-9]+)\r\n")
_NAME = b"content-length"
_END = b"\r\n\r\n"
# A client's own headers are a few hundred bytes; each connection keeps one head.
_MOST_BYTES = 4096
_MOST_DIGITS = 15


class Repeated(Struct, frozen=True):
    """A head and what the parser made of it.

    Args:
        before, after: Its bytes around the number of its Content-Length.
        scope: What a request with this head is, but for its headers.
        length_at: Which of the headers says how long the body is.
        named: The headers by their names.
    """

    before: bytes
    after: bytes
    scope: dict[str, Any]
    headers: list[Header]
    length_at: int
    named: dict[bytes, bytes]

    @classmethod
    def of(cls, data: bytes, body_bytes: int, scope: dict[str, Any], headers: list[Header]) -> Self | None:
        """Keep the head of a request.

        Args:
            data: What came when nothing was left of the request before.
            body_bytes: What came with it of the body. If `data` is anything else than one head and so much of a body,
                the result is `None`, as it is for a head without a length, or a long one.
        """
        end = data.find(_END) + len(_END)
        length = _LENGTH.search(data, 0, end)
        if length is None or end > _MOST_BYTES or end + body_bytes != len(data):
            return None
        at = [name for name, _ in headers].index(_NAME)
        # The application that has these headers may change them.
        return cls(data[: length.start(1)], data[length.end(1) : end], scope, headers.copy(), at, dict(headers))

    def read(self, data: bytes) -> tuple[bytes, bytes, int] | None:
        """Read a request that has this head.

        Returns:
            Its Content-Length, its body or the beginning of it, and how many bytes are still to come; `None` is
            anything else, for the parser to read.
        """
        before, after = self.before, self.after
        if not data.startswith(before):
            return None
        start = len(before)
        end = data.find(b"\r", start)
        length = data[start:end]
        if not data.startswith(after, end) or not length.isdigit() or len(length) > _MOST_DIGITS:
            return None
        body = data[end + len(after) :]
        left_bytes = int(length) - len(body)
        return (length, body, left_bytes) if left_bytes >= 0 else None

    def headers_for(self, length: bytes) -> tuple[list[Header], dict[bytes, bytes]]:
        """Give the headers of a request with a body of this length, and the same by their names."""
        headers, named = self.headers.copy(), self.named.copy()
        headers[self.length_at] = (_NAME, length)
        named[_NAME] = length
        return headers, named
