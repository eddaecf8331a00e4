"""Identifiers that say what they name and sort by the time they were made."""

import secrets
import time

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


def new_id(prefix: str) -> str:
    """Make an id such as `req_0mfk3v2a8x9q4c7n1b5w`: 9 characters of milliseconds, then 11 of chance.

    Args:
        prefix: What is named: `req`, `job`, `file`, `batch`, `resp`, `key`, `chatcmpl`.
    """
    return f"{prefix}_{_base36(time.time_ns() // 1_000_000, 9)}{_base36(secrets.randbits(56), 11)}"


def _base36(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 36)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
