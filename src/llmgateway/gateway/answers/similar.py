"""Vectors of earlier questions, and which of them are near to a new one. Pure arithmetic."""

import math
import struct
from array import array
from collections.abc import Sequence

import msgspec
from msgspec import Struct

# Of one conversation so many last questions are compared.
MOST_RECORDS = 256
# Two vectors whose first numbers lie far apart cannot be near: most are left after so many.
_FIRST = 512


class _Record(Struct, array_like=True, gc=False):
    key: str
    vector: bytes


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(list[_Record]).decode


def normalized(numbers: Sequence[float]) -> bytes | None:
    """Give a vector of length one as 32-bit floats; `None` when it has no direction."""
    length = math.hypot(*numbers)
    if not (math.isfinite(length) and length > 0):
        return None
    return array("f", [number / length for number in numbers]).tobytes()


def nearest(index: bytes, vector: bytes, threshold: float) -> list[tuple[float, str]]:
    """Give the similarity and key of all whose cosine with this vector is at least `threshold`, nearest first."""
    # Of vectors of length one: the square of their distance is 2 - 2 cos. A little room for what 32 bits lose.
    most = math.sqrt(max(0.0, 2 - 2 * threshold)) + 1e-6
    count = len(vector) // 4
    first = struct.Struct(f"{min(count, _FIRST)}f").unpack_from
    every = struct.Struct(f"{count}f").unpack
    asked, asked_first = every(vector), first(vector)
    near = [
        (max(-1.0, 1 - distance * distance / 2), record.key)
        for record in _records(index)
        if len(record.vector) == len(vector)
        and math.dist(first(record.vector), asked_first) <= most
        and (distance := math.dist(every(record.vector), asked)) <= most
    ]
    return sorted(near, reverse=True)


def with_record(index: bytes, key: str, vector: bytes) -> bytes:
    """Add a question's vector, under the key of its answer; the oldest makes room."""
    others = [record for record in _records(index) if record.key != key]
    return _ENCODE([*others[-(MOST_RECORDS - 1) :], _Record(key, vector)])


def _records(index: bytes) -> list[_Record]:
    try:
        return _DECODE(index) if index else []
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return []
