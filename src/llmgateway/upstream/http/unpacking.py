"""Bodies that came packed although nobody asked for it: gzip and deflate, a bounded piece at a time."""

import zlib

from llmgateway.upstream.http.body import Body
from llmgateway.upstream.http.failures import NotHTTPError

# A packed kilobyte may hold a megabyte: so much is unpacked at once.
_PIECE_BYTES = 256 * 1024
_GZIP, _ZLIB, _BARE = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS
_DEFLATE_METHOD = 8
ENCODINGS = frozenset({b"gzip", b"x-gzip", b"deflate"})


class UnpackedBody:
    """A body as it was before it was packed; read as a `Body` is.

    Args:
        encoding: One of `ENCODINGS`.
    """

    __slots__ = ("_body", "_encoding", "_packed", "_unpacker")

    def __init__(self, body: Body, encoding: bytes) -> None:
        self._body = body
        self._encoding = encoding
        self._packed = b""
        self._unpacker: zlib._Decompress | None = None

    def at_eof(self) -> bool:
        """Whether all there is has been read."""
        return self._body.at_eof() and not self._packed and not self._is_within

    @property
    def _is_within(self) -> bool:
        return self._unpacker is not None and not self._unpacker.eof

    async def readany(self) -> bytes:
        """Read some of it; nothing is the end. Raises: OSError."""
        while True:
            if self._packed and (unpacked := self._unpack()):
                return unpacked
            if not self._packed:
                self._packed = await self._body.readany()
                if not self._packed:
                    return self._rest()

    async def read(self) -> bytes:
        """Read all that is left, however much. Raises: OSError."""
        pieces = []
        while piece := await self.readany():
            pieces.append(piece)
        return b"".join(pieces)

    def _unpack(self) -> bytes:
        unpacker = self._unpacker
        if unpacker is None or unpacker.eof:  # gzip may consist of several members (RFC 1952, 2.2)
            unpacker = self._unpacker = zlib.decompressobj(self._window())
        try:
            unpacked = unpacker.decompress(self._packed, _PIECE_BYTES)
        except zlib.error:
            raise NotHTTPError("not packed as it says") from None
        self._packed = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
        return unpacked

    def _window(self) -> int:
        if self._encoding != b"deflate":
            return _GZIP
        # Some leave out the wrapper that the name stands for (RFC 9110, 8.4.1.2).
        return _ZLIB if self._packed[0] & 0xF == _DEFLATE_METHOD else _BARE

    def _rest(self) -> bytes:
        if self._unpacker is None or self._unpacker.eof:
            return b""
        # What was unpacked up to a bound may have left some inside.
        try:
            rest = self._unpacker.decompress(b"", _PIECE_BYTES)
        except zlib.error:
            raise NotHTTPError("not packed as it says") from None
        if rest:
            return rest
        raise NotHTTPError("the packed body has no end")
