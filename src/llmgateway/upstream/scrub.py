"""A provider's words without what must not leave: our keys, and every address.

Too much is taken out rather than too little: a reader can do without a URL, and cannot give back a key.
"""

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, urlsplit

from llmgateway.catalog.model import Account

MAX_MESSAGE_CHARS = 2_000
_KEY = "[key removed]"
_ADDRESS = "[address removed]"
# Read this much at most: a provider's page of a megabyte is not a message.
_MAX_READ_CHARS = 16_000
# Anything shorter is a word such as `eu` or `true`, and taking it out makes nonsense of the text.
_MIN_SECRET_CHARS = 4

# Some providers send theirs: it helps nobody outside and tells where things are.
_STACK_TRACE = "Traceback (most recent call last)"

_KEY_SHAPES = re.compile(
    r"""
      -----BEGIN\ [A-Z ]+-----.*?(?:-----END\ [A-Z ]+-----|\Z)     # private keys
    | (?<![A-Za-z0-9])(?:
          (?:Bearer|Basic|Token)\s+[\w.~+/=*-]{8,}
        | (?:sk|pk|rk|gsk|xai|hf|r8|tgp|pplx|fw|csk|nvapi|lgw|ghp|gho|ghs|glpat|ya29|dapi|jina|co|eyJ)[-_.][\w.*…-]{4,}
        | (?:sess|org|proj|key)[-_][A-Za-z0-9*…]{8,}
        | eyJ[\w-]{8,}\.[\w.-]{8,}                                   # JSON web tokens
        | AIza[\w*…-]{4,} | ya29\.[\w*…-]{4,}
        | (?:AKIA|ASIA|ABSK|AROA|AIDA)[A-Za-z0-9+/=*]{8,}
        | sk\*[\w*]{3,} | github_pat_\w{8,}
        | [0-9a-f]{32,64}(?![0-9A-Za-z])                             # Azure's and others' plain hexadecimal
      )
    | (?i:(?<=key=)|(?<=token=)|(?<=signature=)|(?<=secret=))[^\s&"',;]{4,}
    """,
    re.VERBOSE | re.DOTALL,
)
_ADDRESS_SHAPES = re.compile(
    r"""
      \b[a-z][a-z0-9+.-]{1,20}://[^\s"'<>)\]}]+                      # URLs
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
        text = text.replace(secret, _KEY)
    text = _KEY_SHAPES.sub(_KEY, text)
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
    plain = {leaf for leaf in _leaves([account.api_key, account.options]) if len(leaf) >= _MIN_SECRET_CHARS}
    spelled = plain | {quote(secret, safe="") for secret in plain} | {json.dumps(secret)[1:-1] for secret in plain}
    return sorted(spelled, key=len, reverse=True)


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
