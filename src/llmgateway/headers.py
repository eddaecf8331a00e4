"""Values as response headers write them."""

from functools import lru_cache

_LONGEST = 200
_CACHED_NAMES = 1024


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
def who_answered(provider: str, model: str) -> tuple[tuple[bytes, bytes], ...]:
    """Name the account and the model that answered, as headers."""
    return (b"x-provider", provider.encode("ascii", "replace")), (b"x-model", one_line(model))
