"""A provider's words without what must not leave: our keys, and every address.

Too much is taken out rather than too little: a reader can do without a URL, and cannot give back a key.
"""

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from llmgateway.catalog.model import Account
from llmgateway.wire.secrets import HIDDEN, hide_keys, spellings

MAX_MESSAGE_CHARS = 2_000
_ADDRESS = "[address removed]"
# Read this much at most: a provider's page of a megabyte is not a message.
_MAX_READ_CHARS = 16_000
# Anything shorter is a word such as `eu` or `true`, and taking it out makes nonsense of the text.
_MIN_SECRET_CHARS = 4

# Some providers send theirs: it helps nobody outside and tells where things are.
_STACK_TRACE = "Traceback (most recent call last)"

_ADDRESS_SHAPES = re.compile(
    r"""
      \b[a-z][a-z0-9+.-]{1,20}://(?:\[key\ removed\]|[^\s"'<>)\]}])+  # URLs
    | \barn:aws[a-z-]*:[^\s"',)]+
    | (?<![\w.-])[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+                   # mail addresses: service accounts have them
    | (?<![\w.-])(?:[a-z0-9_-]+\.)+(?:com|net|org|io|ai|dev|cloud|app|co|eu|us|de|fr|uk|cn|sh|run|
          internal|local|localdomain|lan|corp|svc|intranet|home|private|test|example|invalid)
          (?::\d{1,5})?(?:/[^\s"'<>)\]}]*)?(?![\w-]|\.\w)
    | (?<![\w.-])localhost(?::\d{1,5})?(?![\w-])
    | (?<![\w.-])(?=[a-z0-9.-]*[a-z])(?:[a-z0-9-]+\.)+[a-z0-9-]+:\d{2,5}(?![\w.-]*\w)
    | (?<![\w.-])[a-z][a-z0-9-]*:\d{4,5}(?![\w-]|\.\d)               # a container's name with its port
    | (?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?(?!\w|\.\d)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_IPV6_SHAPE = re.compile(
    r"(?<![\w:.])\[?[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?:%\w+)?\]?(?::\d{1,5})?(?![\w:])", re.IGNORECASE
)


def scrub(text: str, account: Account) -> str:
    """Take the account's secrets, everything shaped like a key and every address out, and cut at 2,000 characters."""
    text = _start_of(text, _MAX_READ_CHARS).partition(_STACK_TRACE)[0].rstrip()
    for secret in _secrets(account):
        text = text.replace(secret, HIDDEN)
    text = hide_keys(text, in_doubt=True)
    text = _ADDRESS_SHAPES.sub(_ADDRESS, text)
    for host in _hosts(account):
        text = text.replace(host, _ADDRESS)
    text = _IPV6_SHAPE.sub(_without_ipv6, text)
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"


def _start_of(text: str, max_chars: int) -> str:
    """Cut between words: half a key would not be found."""
    if len(text) <= max_chars:
        return text
    words, _, _ = text[:max_chars].rpartition(" ")
    return words


def _secrets(account: Account) -> list[str]:
    """Every value that proves who we are, in each spelling an echo may use; the longest first."""
    return spellings(_leaves([account.api_key, account.options]), min_chars=_MIN_SECRET_CHARS)


def _leaves(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
            if value.lstrip().startswith("{"):  # Google's credentials come as JSON in a string
                yield from _leaves(_decoded(value))
        case Mapping():
            for inner in value.values():
                yield from _leaves(inner)
        case list() | tuple():
            for inner in value:
                yield from _leaves(inner)
        case _:
            return


def _decoded(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _hosts(account: Account) -> list[str]:
    """Our account's own host, with its port first: it may be a bare name that nothing else would recognize."""
    if not account.api_base:
        return []
    parts = urlsplit(account.api_base)
    return [host for host in (parts.netloc, parts.hostname) if host and len(host) >= _MIN_SECRET_CHARS]


def _without_ipv6(found: re.Match[str]) -> str:
    text = found.group()
    candidate = text.split("]")[0].lstrip("[").split("%")[0]
    try:
        ipaddress.IPv6Address(candidate)
    except ValueError:  # a time of day, or C++'s `std::string`
        return text
    return _ADDRESS
