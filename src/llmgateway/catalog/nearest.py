"""Names that look like a wrong one, for messages that help."""

import re
from collections.abc import Iterable
from difflib import SequenceMatcher

_PARTS = re.compile(r"[A-Za-z]+|[0-9]+")
_LONGEST = 100  # characters of a client's name that are looked at
_FINALISTS = 40


class Nearest:
    """Knows names, finds those that share most with another; cheap enough for every request that fails.

    Args:
        names: What may be found.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = [(name, frozenset(_PARTS.findall(name.lower()))) for name in names]

    def find(self, name: str, count: int) -> list[str]:
        """Give up to `count` names, the most similar first."""
        asked = name[:_LONGEST].lower()
        parts = frozenset(_PARTS.findall(asked))
        ranked = sorted(self._names, key=lambda known: -len(parts & known[1]) / (len(parts | known[1]) or 1))
        matcher = SequenceMatcher(b=asked, autojunk=False)

        def likeness(candidate: str) -> float:
            matcher.set_seq1(candidate.lower())
            return matcher.ratio()

        finalists = [candidate for candidate, _ in ranked[:_FINALISTS]]
        return sorted(finalists, key=likeness, reverse=True)[:count]
