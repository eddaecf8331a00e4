"""How a key is made and what is kept of it: its SHA-256, and its first characters for people.

A key has 256 random bits, so a fast hash is enough: there is nothing to guess.
"""

import hashlib
import hmac
import re
import secrets

_MARK = "lgw_"
_RANDOM_BYTES = 32
_PREFIX_CHARS = 12
_OURS = re.compile(rb"lgw_[A-Za-z0-9_-]{43}")


def new_key() -> str:
    """Make a key: `lgw_` and 43 characters of chance."""
    return _MARK + secrets.token_urlsafe(_RANDOM_BYTES)


def hash_of(key: str | bytes) -> str:
    """Give what is kept of a key: its SHA-256 in hexadecimal."""
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).hexdigest()


def prefix_of(key: str) -> str:
    """Give the first characters, by which people know a key again."""
    return key[:_PREFIX_CHARS]


def same(one: str, other: str) -> bool:
    """Compare two hashes in a time that does not depend on where they differ."""
    return hmac.compare_digest(one, other)


def is_ours(key: bytes) -> bool:
    """Whether it has the shape of a key that was made here: nothing else is worth a question to the database."""
    return _OURS.fullmatch(key) is not None
