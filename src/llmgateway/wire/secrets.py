"""What keys look like, whoever gave them out, and how they are taken out of a text.

A text of our own keeps what it is read for: request and trace ids, hashes, names of models. In somebody else's words
(`in_doubt`) too much is taken out rather than too little.
"""

import json
import re
from collections.abc import Iterable
from urllib.parse import quote

HIDDEN = "[key removed]"

# What has a shape of its own, by the lower-case letters that each of it holds: looking for those is a hundred times
# cheaper than the expression, and almost no text has any.
_SHAPES = {
    "-----begin ": r"-----BEGIN\ [A-Z ]+-----.*?(?:-----END\ [A-Z ]+-----|\Z)",
    "bearer": r"(?i:bearer)\s+[\w.~+/=*-]{8,}",
    "basic": r"(?i:basic)\s+(?=[\w.~+/*-]*[\d=])[\w.~+/=*-]{8,}",
    "token": r"Token\s+(?=[\w.~+/*-]*[\d=])[\w.~+/=*-]{8,}",
    "sk": r"g?sk[-_](?!learn\b)[\w.*…-]{8,} | csk-[a-z0-9]{16,}",  # OpenAI, Anthropic and many more; Groq, Cerebras
    "xai": r"xai[-_][\w*…-]{8,}",
    "lgw": r"lgw[-_][\w*…-]{8,}",  # our own
    "aiza": r"AIza[\w*…-]{8,}",  # Google
    "ya29": r"ya29\.[\w-]{8,}",
    "akia": r"AKIA[A-Z0-9*]{8,}",  # Amazon
    "asia": r"ASIA[A-Z0-9*]{8,}",
    "absk": r"ABSK[A-Za-z0-9+/=]{16,}",
    "bedrock-": r"bedrock-api-key-[\w+/=-]{8,}",
    "jqqj": r"[A-Za-z0-9]{40,60}JQQJ99[A-Za-z0-9]{16,40}",  # Azure's of 84 characters
    "hf_": r"hf_[A-Za-z0-9]{16,}",
    "r8_": r"r8_[A-Za-z0-9]{16,}",
    "fw_": r"fw_[A-Za-z0-9]{16,}",
    "tgp_": r"tgp_v\d_[\w-]{16,}",
    "pplx": r"pplx-[A-Za-z0-9]{16,}",
    "jina": r"jina_[A-Za-z0-9]{16,}",
    "nvapi": r"nvapi-[\w*…-]{8,}",
    "dapi": r"dapi[0-9a-f]{32}",
    "gh": r"gh[pousr]_[A-Za-z0-9]{16,}",
    "glpat": r"glpat-[\w-]{8,}",
    "_pat_": r"github_pat_\w{16,}",
    "eyj": r"eyJ[\w-]{8,2000}\.[\w.-]{8,}",  # JSON web tokens
    "@": r"(?<=://)[^\s/:@\"']{16,}(?=@)",  # a token for a user's name
}
# What is known by the name before it, which stays.
_PLACES = {
    "://": r"://[^\s/:@\"']{0,64}:(?=[^\s/@\"']+@)",
    "authorization": r"(?i:authorization)[\"']?\s*[:=]\s*b?[\"']?",
    "key": r"(?i:(?:api|access|secret|subscription|account|master|admin|metrics|private|signing)[-_ ]?key)",
    "token": r"(?i:(?<![a-z])(?:[a-z]{2,12}[-_])?token)",
    "secret": r"(?i:secret)",
    "passw": r"(?i:passw(?:or)?d)",
    "sig": r"(?<![\w-])(?i:sig|signature)",
}
_SEPARATORS = r"""(?:
    [\"']?\s*=\s*b?[\"']? | [\"']?\s*:\s*b?[\"'] | (?i:(?<=-key)|(?<=-token)):\s*
  | :\s+(?=\S*\d)(?=\S{8})                                                        # in prose, what is no word
)"""
_VALUE = r"""(?!\$\{|\[key\ removed|(?:None|null|true|false)\b)[^\s"'&,;\\<>)\]}]{4,}"""
_ENDS = {
    "://": r"[^\s/@\"']+",
    "authorization": rf"{_VALUE}(?:\s+{_VALUE})?",
}
_IN_DOUBT = re.compile(
    r"""
      (?<![A-Za-z0-9])(?:
          (?:Basic|Token)\s+[\w.~+/=*-]{8,}
        | (?:sk|pk|rk|gsk|xai|hf|r8|tgp|pplx|fw|csk|nvapi|lgw|ghp|gho|ghs|glpat|ya29|dapi|jina|co|eyJ)[-_.][\w.*…-]{4,}
        | (?:sess|org|proj|key)[-_][A-Za-z0-9*…]{8,}
        | AIza[\w*…-]{4,} | ya29\.[\w*…-]{4,}
        | (?:AKIA|ASIA|ABSK|AROA|AIDA)[A-Za-z0-9+/=*]{8,}
        | sk\*[\w*]{3,} | github_pat_\w{8,}
        | [0-9a-f]{32,64}(?![0-9A-Za-z])                             # Azure's and others' plain hexadecimal
      )
    | (?i:(?<=key=)|(?<=token=)|(?<=signature=)|(?<=secret=))[^\s&"',;]{4,}
    """,
    re.VERBOSE,
)


def _expressions() -> list[tuple[str, re.Pattern[str]]]:
    flags = re.VERBOSE | re.DOTALL
    places = [
        (mark, rf"(?P<before>{name}{'' if mark in _ENDS else _SEPARATORS}){_ENDS.get(mark, _VALUE)}")
        for mark, name in _PLACES.items()
    ]
    places.append(("key=", rf"(?P<before>(?<![\w-])(?i:key)=){_VALUE}"))
    shapes = [(mark, rf"(?P<before>)(?<![A-Za-z0-9])(?:{shape})") for mark, shape in _SHAPES.items()]
    return [(mark, re.compile(expression, flags)) for mark, expression in places + shapes]


_EXPRESSIONS = _expressions()
_KEY_NAME = re.compile(
    r"(?i:(?:api|access|secret|subscription|account|master|admin|metrics|private|signing)[-_]?key|secret|passw(?:or)?d"
    r"|(?<![a-z])token|authorization|(?<![a-z])cookie|credentials?)$"
)


def hide_keys(text: str, *, in_doubt: bool = False) -> str:
    """Take out everything that is shaped like a key, or that stands where a key does, such as after `api_key=`.

    Args:
        in_doubt: Also what only may be one: plain hexadecimal, ids of organizations, short beginnings.
    """
    lower = text.lower()
    for mark, expression in _EXPRESSIONS:
        if mark in lower:
            text = expression.sub(rf"\g<before>{HIDDEN}", text)
    return _IN_DOUBT.sub(HIDDEN, text) if in_doubt else text


def names_a_key(name: str) -> bool:
    """Whether a field of this name holds a key, as `api_key` and `Authorization` do."""
    return _KEY_NAME.search(name) is not None


def spellings(secrets: Iterable[str], *, min_chars: int) -> list[str]:
    """Give every secret in each spelling that an echo may use, the longest first.

    Args:
        min_chars: Anything shorter is a word such as `eu` or `true`, and taking it out makes nonsense of a text.
    """
    plain = {secret for secret in secrets if len(secret) >= min_chars}
    spelled = plain | {quote(secret, safe="") for secret in plain} | {json.dumps(secret)[1:-1] for secret in plain}
    return sorted(spelled, key=len, reverse=True)
