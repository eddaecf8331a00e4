"""Values as response headers write them."""

_LONGEST = 200


def usd(amount: float) -> str:
    """Write an amount to the billionth of a dollar, without an exponent: tokens cost millionths."""
    return f"{amount:.9f}".rstrip("0").rstrip(".") or "0"


def one_line(text: str) -> bytes:
    """Make a value of a name that a provider reported."""
    text = text[:_LONGEST]
    if not (text.isascii() and text.isprintable()):
        text = "".join(char if " " <= char <= "~" else "?" for char in text)
    return text.encode()
