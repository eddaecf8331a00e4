"""Finds what is sensitive in a text and says how much of it there is.

Almost no text holds anything, so one automaton (RE2) asks first which kinds may be there at all: that costs two
microseconds a kilobyte, however many kinds there are. Only their expressions run.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct

from llmgateway.sensitivity.keywords import KEYWORDS
from llmgateway.sensitivity.linear import together
from llmgateway.sensitivity.own_patterns import OwnPatterns
from llmgateway.sensitivity.patterns import FINANCIAL, OWN, PERSONAL, SHAPES, Shape
from llmgateway.sensitivity.personal import IBAN_GATE, NINO_GATE, Found, accounts, insurance_numbers, numbers

THRESHOLD = 0.7
_WORD_WEIGHT, _MOST_OF_WORDS = 0.15, 0.5
_KIND_OF_ADDRESS = "email"
_MOST_OF_ADDRESSES = 0.6  # every list of authors is full of them
_KIND_OF_WORD = "keyword"
_AUTOMATON_BYTES = 16 * 1024 * 1024

Finder = Callable[[str, str], Iterable[Found]]
# What has no mark: category, weight, gate and who finds it.
_PERSONAL: tuple[tuple[str, float, str, Finder], ...] = (
    (FINANCIAL, 0.9, IBAN_GATE, accounts),
    (PERSONAL, 0.9, "(?:[0-9][ -]?){9}", numbers),
    (PERSONAL, 0.85, NINO_GATE, insurance_numbers),
)


class Finding(Struct, frozen=True, gc=False):
    """One place in a text.

    Args:
        kind: Such as `github_token`, `email`, `keyword`.
        weight: 1 is a secret.
        start, end: Characters of the text.
        replaceable: Whether it can be taken out and put back; the built-in words cannot.
    """

    kind: str
    category: str
    weight: float
    start: int
    end: int
    replaceable: bool = True


class Findings(Struct, frozen=True):
    """All that was found.

    Args:
        score: 0 to 1: `1 - (1 - w1)(1 - w2)…` over the weights of what differs.
        categories: In alphabetical order.
    """

    score: float = 0.0
    categories: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


NOTHING = Findings()


class Scanner:
    """Looks for secrets, personal data and words.

    Args:
        threshold: The score from which a text counts as sensitive.
        patterns: Further expressions (RE2), each a secret.
        keywords: Further words, each enough by itself.

    Raises:
        ValueError: A pattern is faulty.
    """

    def __init__(
        self, threshold: float = THRESHOLD, patterns: Sequence[str] = (), keywords: Sequence[str] = ()
    ) -> None:
        self.threshold = threshold
        self.own = OwnPatterns(patterns)
        self._words = [(word, category, False) for category, words in KEYWORDS.items() for word in words]
        self._words += [(word.lower(), OWN, True) for word in keywords]
        gates = [shape.gate for shape in SHAPES] + [gate for _, _, gate, _ in _PERSONAL]
        self._gates = together([*gates, *(re.escape(word) for word, _, _ in self._words)], most_bytes=_AUTOMATON_BYTES)

    def scan(self, text: str) -> Findings:
        """Find everything; any thread."""
        raw = text.encode("utf-8", "replace")
        rows = self._gates.Match(raw)
        if rows is None and not self.own:
            return NOTHING
        found = _without_overlaps(self._findings(text, raw, rows or ()))
        return _scored(text, found) if found else NOTHING

    def is_sensitive(self, findings: Findings) -> bool:
        """Whether the score reaches the threshold."""
        return findings.score >= self.threshold

    def _findings(self, text: str, raw: bytes, rows: Iterable[int]) -> Iterator[Finding]:
        for kind, start, end in self.own.find(text, raw):
            yield Finding(kind, OWN, 1.0, start, end, replaceable=end > start)
        lower = _lower(text)
        for row in sorted(rows):
            if row < len(SHAPES):
                shape = SHAPES[row]
                for start, end in _places(shape, text, lower):
                    yield Finding(shape.kind, shape.category, shape.weight, start, end)
            elif (other := row - len(SHAPES)) < len(_PERSONAL):
                category, weight, _, find = _PERSONAL[other]
                for kind, start, end in find(text, lower):
                    yield Finding(kind, FINANCIAL if kind == "card_number" else category, weight, start, end)
            else:
                yield from _words(lower, *self._words[other - len(_PERSONAL)])


def _lower(text: str) -> str:
    """Give the text in lower case, each character where it was: the Turkish dotted I alone would become two."""
    lower = text.lower()
    return lower if len(lower) == len(text) else text.replace("\u0130", "i").lower()


def _places(shape: Shape, text: str, lower: str) -> Iterator[tuple[int, int]]:
    for mark in shape.marks:
        at = lower.find(mark)
        while at >= 0:
            match = _match(shape, text, at)
            if match is None:
                at = lower.find(mark, at + 1)
                continue
            place = match.lastindex or 0
            if shape.check is None or shape.check(match[place]):
                yield match.span(place)
            at = lower.find(mark, max(match.end(), at + 1))


def _match(shape: Shape, text: str, at: int) -> re.Match[str] | None:
    if shape.before:
        head = text[max(0, at - 64) : at]
        start = at - len(head) + len(head.rstrip(shape.before))
        # `\nmaria@…` within JSON: the n is no part of the name.
        start += start > 0 and text[start - 1] == "\\" and text[start] in "nrt"
        return shape.expression.match(text, start)
    for back in shape.back:
        if at >= back and (match := shape.expression.match(text, at - back)) is not None:
            return match
    return None


def _words(lower: str, word: str, category: str, own: bool) -> Iterator[Finding]:
    """Find a word that stands by itself: "salary", never the middle of another."""
    at = lower.find(word)
    while at >= 0:
        end = at + len(word)
        if not (_joins(lower[at - 1 : at], word[0]) or _joins(word[-1], lower[end : end + 1])):
            yield Finding(_KIND_OF_WORD, category, 1.0 if own else _WORD_WEIGHT, at, end, replaceable=own)
            if not own:
                return
        at = lower.find(word, end)


def _joins(left: str, right: str) -> bool:
    """Whether two characters belong to one word. Chinese, Japanese, Thai and others write no spaces between words."""
    inside = (left.isalnum() or left == "_") and (right.isalnum() or right == "_")
    return inside and not (_spaceless(left) or _spaceless(right))


def _spaceless(char: str) -> bool:
    return "\u0e00" <= char <= "\u0eff" or "\u1000" <= char <= "\u109f" or "\u2e80" <= char <= "\ud7ff"


def _without_overlaps(found: Iterable[Finding]) -> list[Finding]:
    """Join what overlaps: the place is that of both together, the kind that of the first row."""
    ranked = sorted(enumerate(found), key=lambda item: (item[1].start, item[0]))
    kept: list[tuple[int, Finding]] = []
    words = [one for _, one in ranked if not one.replaceable]
    for rank, one in ranked:
        if not one.replaceable:
            continue
        if kept and one.start < kept[-1][1].end:
            its_rank, last = kept[-1]
            named, rank = (one, rank) if rank < its_rank else (last, its_rank)  # noqa: PLW2901
            kept[-1] = (
                rank,
                Finding(named.kind, named.category, max(last.weight, one.weight), last.start, max(last.end, one.end)),
            )
        else:
            kept.append((rank, one))
    return [one for _, one in kept] + words


def _scored(text: str, found: list[Finding]) -> Findings:
    """Add up: each value counts once. Words alone reach half at most, and addresses alone less than the threshold."""
    distinct = {(one.kind, text[one.start : one.end].lower()): one.weight for one in found if one.replaceable}
    left, words, addresses_left = 1.0, 0, 1.0
    for (kind, _), weight in distinct.items():
        if kind == _KIND_OF_ADDRESS:
            addresses_left *= 1.0 - weight
        else:
            left *= 1.0 - weight
    left *= max(1.0 - _MOST_OF_ADDRESSES, addresses_left)
    for one in found:
        if not one.replaceable:
            words += one.kind == _KIND_OF_WORD
            left *= 1.0 - (one.weight if one.kind != _KIND_OF_WORD else 0.0)
    left *= max(1.0 - _MOST_OF_WORDS, (1.0 - _WORD_WEIGHT) ** words)
    return Findings(round(1.0 - left, 4), tuple(sorted({one.category for one in found})), tuple(found))
