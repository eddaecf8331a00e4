"""A kept answer as bytes: whole, or as the events of a stream; what is damaged is no answer."""

import zlib

import msgspec
from msgspec import Struct

from llmgateway.exchange import Usage

# Answers above this size are not kept.
MOST_BYTES = 8 * 1024 * 1024
# Above this size packing and unpacking belong into a thread: compression takes about ten milliseconds a megabyte.
LARGE_BYTES = 64 * 1024
_COMPRESS_FROM_BYTES = 1024
# Up to this size a whole answer is not packed where no other process reads it: that would take more time than the
# memory is worth which it saves, half of it at best.
_READY_BYTES = 4096
# Nor a longer name of a model: it is whatever the provider says, and is not counted as memory.
_READY_CHARS = 256
# The first byte says how to read the rest, and a gateway of another version finds nothing rather than something else.
_PLAIN, _COMPRESSED = b"\x01", b"\x02"
_HEAD_BYTES = 5


class Kept(Struct, array_like=True, gc=False):
    """An answer as it was given.

    Args:
        body: The whole answer; empty for a stream.
        chunks: The events of a stream, in the pieces they came in; empty for a whole answer.
        usage: Of a stream, which may not tell it.
        provider: The account's name that answered.
        model: As the provider reported it.
    """

    body: bytes = b""
    chunks: tuple[bytes, ...] = ()
    usage: Usage | None = None
    provider: str | None = None
    upstream_model: str | None = None
    model: str | None = None

    @property
    def size_bytes(self) -> int:
        """About how much memory it takes."""
        return sum(map(len, self.chunks)) if self.chunks else len(self.body)

    @property
    def is_short(self) -> bool:
        """Whether it is as good unpacked."""
        return not self.chunks and len(self.body) <= _READY_BYTES and len(self.model or "") <= _READY_CHARS

    def packed(self) -> bytes:
        """Write it down."""
        return pack(self)


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(Kept).decode


def pack(kept: Kept) -> bytes:
    """Write an answer down: a byte for the form, a checksum, MessagePack, compressed where that is worth it."""
    packed, form = _ENCODE(kept), _PLAIN
    if len(packed) > _COMPRESS_FROM_BYTES:
        packed, form = zlib.compress(packed, 1), _COMPRESSED
    return form + zlib.crc32(packed).to_bytes(4, "big") + packed


def unpack(value: bytes) -> Kept | None:
    """Read an answer; `None` when it is damaged, or of another version."""
    packed = value[_HEAD_BYTES:]
    if zlib.crc32(packed) != int.from_bytes(value[1:_HEAD_BYTES], "big"):
        return None
    form = value[:1]
    try:
        if form == _COMPRESSED:
            packed = zlib.decompress(packed)
        elif form != _PLAIN:
            return None
        return _DECODE(packed)
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError):
        return None
