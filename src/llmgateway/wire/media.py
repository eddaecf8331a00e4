"""What pictures, sound, film and files of a request count: by rules, since only their model could tell exactly.

Their base64 is no text. The rules are described in docs/tokenizers.md.
"""

import re
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

# OpenAI, Images and vision: an image of low detail, and one of 1024 by 1024 pixels; its real size is not looked at.
_SMALL_IMAGE_TOKENS = 85
_IMAGE_TOKENS = 765
# What a need's parts keep their content in.
_MARKS = {"vision": b'"url"', "audio": b'"data"', "pdf": b'"file_data"'}
MEDIA_NEEDS = frozenset(_MARKS)
_OPENING = re.compile(rb'\s*+:\s*+"')
_START_BYTES = 64


class Media(Struct, frozen=True):
    """What a body holds that is no text.

    Args:
        base64_bytes: How much of the body it takes.
        tokens: What it counts by the rules.
    """

    base64_bytes: int
    tokens: int


NO_MEDIA = Media(0, 0)


class _Rule(Struct, frozen=True):
    """So many tokens for so many bytes; for fewer bytes as well, and where their number is not known."""

    tokens: int
    for_bytes: int

    def count(self, base64_bytes: int) -> int:
        return max(self.tokens, base64_bytes * 3 // 4 * self.tokens // self.for_bytes)


_IMAGE = _Rule(_IMAGE_TOKENS, 2**62)
# OpenAI, Realtime: ten tokens for a second of sound. As WAV that is 24,000 times two bytes; packed, 128 kbit.
_WAV = _Rule(10, 48_000)
_SOUND = _Rule(10, 16_000)
# Gemini, Video understanding: about 300 tokens for a second of film, which is taken as one megabit.
_FILM = _Rule(300, 125_000)
# Anthropic, PDF support: 1,500 to 3,000 tokens for a page, which is taken as 50 KB.
_PAGE = _Rule(2_000, 50_000)
_PLAIN = _Rule(1, 4)

_BY_START = (
    (b"data:image/", _IMAGE),
    (b"data:audio/wav", _WAV),
    (b"data:audio/x-wav", _WAV),
    (b"data:audio/", _SOUND),
    (b"data:video/", _FILM),
    (b"data:text/", _PLAIN),
    (b"data:", _PAGE),
    (b"UklGR", _WAV),  # `RIFF` in base64
)
_BY_KIND = {
    "image_url": _IMAGE,
    "audio_url": _SOUND,
    "input_audio": _SOUND,
    "video_url": _FILM,
    "file": _PAGE,
    "vision": _IMAGE,
    "audio": _SOUND,
    "pdf": _PAGE,
}
_CONTENT = ("url", "data", "file_data")


def tokens_of_part(part: dict[str, Any]) -> int:
    """Give what one part of a message counts besides its text; 0 when it is only text."""
    kind = part.get("type")
    rule = _BY_KIND.get(kind) if isinstance(kind, str) else None
    if rule is None:
        return 0
    inside = part.get(str(kind))
    if not isinstance(inside, dict):
        return rule.tokens
    if inside.get("detail") == "low":
        return _SMALL_IMAGE_TOKENS
    content = next((given for name in _CONTENT if isinstance(given := inside.get(name), str)), "")
    return _counted(rule, content[:_START_BYTES].encode(errors="replace"), len(content))


def media_of(body: bytes, needs: frozenset[str] = MEDIA_NEEDS) -> Media:
    """Look through a whole request without parsing it; in a text nothing looks like this, since its quotes are escaped.

    Args:
        needs: What a model must be able to do for it: only what needs that is looked for.
    """
    base64_bytes = tokens = 0
    for need, mark in _MARKS.items():
        if need not in needs:
            continue
        texts, after = [], 0
        for start, end in _strings(body, mark):
            head = body[start : min(end, start + _START_BYTES)]
            tokens += _counted(_BY_KIND[need], head, end - start)
            if need != "vision" or head.startswith(b"data:"):
                base64_bytes += end - start
                texts.append(body[after:start])
                after = end
        # The next need is not looked for within this one's content, which may be megabytes.
        body = b"".join((*texts, body[after:])) if texts else body
    return Media(base64_bytes, tokens) if tokens else NO_MEDIA


def _counted(usual: _Rule, start: bytes, length: int) -> int:
    """Count by what the content's first bytes say it is; what is only an address has the size that is usual."""
    rule = next((rule for begin, rule in _BY_START if start.startswith(begin)), usual)
    return rule.tokens if start.startswith(b"http") else rule.count(length)


def _strings(body: bytes, mark: bytes) -> Iterator[tuple[int, int]]:
    """Yield where the strings of a key begin and end; what is within one of them is passed over at once."""
    at = body.find(mark)
    while at >= 0:
        end = at + len(mark)
        opening = _OPENING.match(body, end)
        if opening is not None:
            start = opening.end()
            end = body.find(b'"', start)
            if end < 0:
                return
            yield start, end
        at = body.find(mark, end)
