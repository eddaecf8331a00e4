"""Response headers, as they are written: lines of `name: value`, each with its end."""

from collections.abc import Iterable, Sequence
from functools import lru_cache

_LONGEST = 200
_CACHED_NAMES = 1024
# What a header's value may not hold (RFC 9110, 5.5): control characters other than a tab.
_NO_VALUE = bytes({*range(0x20), 0x7F} - {ord("\t")})
_MARKED = bytes.maketrans(_NO_VALUE, b"?" * len(_NO_VALUE))


def write_lines(headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Write headers. Raises: RuntimeError: One holds a line break, which would let its author write others."""
    if not may_leave(map(b"".join, headers)):
        raise RuntimeError("a header holds a line break or another control character")
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def may_leave(values: Iterable[bytes]) -> bool:
    """Whether these may be headers' values; a line break in one would let its author write headers, or an answer."""
    together = b"".join(values)
    return together.translate(_MARKED) == together


def read_lines(lines: bytes) -> list[tuple[bytes, bytes]]:
    """Read headers that were written here."""
    parts = (line.partition(b": ") for line in lines.split(b"\r\n")[:-1])
    return [(name, value) for name, _, value in parts]


def usd(amount: float) -> str:
    """Write an amount to the billionth of a dollar, without an exponent: tokens cost millionths."""
    return f"{amount:.9f}".rstrip("0").rstrip(".") or "0"


def one_line(text: str) -> bytes:
    """Make a value of a name that a provider reported."""
    text = text[:_LONGEST]
    if not (text.isascii() and text.isprintable()):
        text = "".join(char if " " <= char <= "~" else "?" for char in text)
    return text.encode()


@lru_cache(maxsize=_CACHED_NAMES)
def who_answered(provider: str, model: str) -> bytes:
    """Name the account and the model that answered, in two lines."""
    return b"x-provider: %b\r\nx-model: %b\r\n" % (one_line(provider), one_line(model))
