"""An answer whose head is there."""

import re
from collections.abc import Callable
from contextlib import suppress

from multidict import CIMultiDictProxy

from llmgateway.upstream.http.body import Body
from llmgateway.upstream.http.head import field, read_fields
from llmgateway.upstream.http.unpacking import ENCODINGS, UnpackedBody

_PACKED = b"\r\ncontent-encoding:"


class Response:
    """An answer whose head is there; its connection goes back to the pool by itself once the body has come.

    Args:
        head: From the status line to the last field's line break.
        lowered: The same in lower case.
        stop: Ends the connection that a body still comes from.
    """

    __slots__ = ("_body", "_fields", "_head", "_lowered", "_stop", "content", "status")

    def __init__(self, status: int, head: bytes, lowered: bytes, body: Body, stop: Callable[[Body], None]) -> None:
        self.status = status
        self._head = head
        self._lowered = lowered
        self._body = body
        self._stop = stop
        self._fields: CIMultiDictProxy[str] | None = None
        self.content: Body | UnpackedBody = body if lowered.find(_PACKED) < 0 else self._unpacked()

    def whole(self, most_bytes: int) -> bytes | None:
        """Give the body where all of it has come; `None` where it is to be read: it is packed, longer, or not whole."""
        return self._body.whole(most_bytes) if self.content is self._body else None

    @property
    def headers(self) -> CIMultiDictProxy[str]:
        """All fields; their names have no case. They are read when they are first asked for."""
        if self._fields is None:
            self._fields = CIMultiDictProxy(read_fields(self._head))
        return self._fields

    def fields(self, names: re.Pattern[bytes]) -> list[tuple[bytes, bytes]]:
        """Find some fields, their names in lower case, without reading the others.

        Args:
            names: What `pattern_of` made.
        """
        head = self._head
        return [(found[1], head[found.start(2) : found.end(2)].rstrip()) for found in names.finditer(self._lowered)]

    @property
    def content_length(self) -> int | None:
        """How many bytes the body was said to have; `None` when that was not said."""
        declared = field(self._lowered, b"content-length")
        return None if declared is None else int(declared)

    @property
    def encoding(self) -> bytes | None:
        """What the body is packed with, though nobody asked for it; `None` when it is not."""
        return field(self._lowered, b"content-encoding")

    def _unpacked(self) -> Body | UnpackedBody:
        packed = self.encoding
        return UnpackedBody(self._body, packed) if packed in ENCODINGS else self._body

    def close(self) -> None:
        """Hang up, unless the body has come; safe to call twice."""
        if not self._body.over:
            self._stop(self._body)

    def __del__(self) -> None:
        if not self._body.over:
            # Nobody can read the rest any more; the collector may run in any thread, and after the loop's end.
            with suppress(RuntimeError):
                self._body.loop.call_soon_threadsafe(self._stop, self._body)
