"""An answer whose head is there."""

import re
from collections.abc import Callable
from contextlib import suppress

from multidict import CIMultiDictProxy
from typing_extensions import override

from llmgateway.upstream.http.body import Body, WholeBody
from llmgateway.upstream.http.head import field, read_fields
from llmgateway.upstream.http.unpacking import ENCODINGS, UnpackedBody

Content = Body | UnpackedBody | WholeBody
_PACKED = b"\r\ncontent-encoding:"


class Response:
    """An answer whose head is there; this one has come whole, and its connection is back in the pool.

    Args:
        head: From the status line to the last field's line break.
        whole: The body, which is not packed.
    """

    __slots__ = ("_content", "_fields", "_head", "_whole", "status")

    def __init__(self, status: int, head: bytes, whole: bytes) -> None:
        self.status = status
        self._head = head
        self._whole = whole
        self._content: Content | None = None
        self._fields: CIMultiDictProxy[str] | None = None

    @property
    def content(self) -> Content:
        """The body for who reads it piece by piece."""
        if self._content is None:
            self._content = WholeBody(self._whole)
        return self._content

    def whole(self, most_bytes: int) -> bytes | None:
        """Give the body where all of it has come; `None` where it is to be read: it is packed, longer, or not whole."""
        return self._whole if len(self._whole) <= most_bytes else None

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
        return [(name.lower(), value.rstrip()) for name, value in names.findall(self._head)]

    @property
    def content_length(self) -> int | None:
        """How many bytes the body was said to have; `None` when that was not said."""
        return len(self._whole)

    @property
    def encoding(self) -> bytes | None:
        """What the body is packed with, though nobody asked for it; `None` when it is not."""
        return None

    def close(self) -> None:
        """Hang up, unless the body has come; safe to call twice."""


class ComingResponse(Response):
    """An answer that a parser has read; its connection goes back to the pool by itself once the body has come.

    Args:
        stop: Ends the connection that a body still comes from.
    """

    __slots__ = ("_body", "_lowered", "_stop", "content")

    def __init__(self, status: int, head: bytes, body: Body, stop: Callable[[Body], None]) -> None:
        super().__init__(status, head, b"")
        self._lowered = lowered = head.lower()
        self._body = body
        self._stop = stop
        self.content: Content = body if lowered.find(_PACKED) < 0 else self._unpacked()

    @override
    def whole(self, most_bytes: int) -> bytes | None:
        return self._body.whole(most_bytes) if self.content is self._body else None

    @property
    @override
    def content_length(self) -> int | None:
        declared = field(self._lowered, b"content-length")
        return None if declared is None else int(declared)

    @property
    @override
    def encoding(self) -> bytes | None:
        return field(self._lowered, b"content-encoding")

    def _unpacked(self) -> Body | UnpackedBody:
        packed = self.encoding
        return UnpackedBody(self._body, packed) if packed in ENCODINGS else self._body

    @override
    def close(self) -> None:
        if not self._body.over:
            self._stop(self._body)

    def __del__(self) -> None:
        if not self._body.over:
            # Nobody can read the rest any more; the collector may run in any thread, and after the loop's end.
            with suppress(RuntimeError):
                self._body.loop.call_soon_threadsafe(self._stop, self._body)
