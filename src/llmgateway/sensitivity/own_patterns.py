"""The operator's own expressions, run by RE2, whose time grows with the text and never explodes.

Three bounds hold together: an expression has a size and its automaton a memory; a text is looked at in windows, so
that one search is short; and between two searches the clock is read. A text that was not searched in time counts as
sensitive.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llmgateway.sensitivity.linear import compiled
from llmgateway.sensitivity.personal import Found

KIND, UNSEARCHED = "custom", "unsearched"
MOST_PATTERNS, LONGEST_PATTERN_CHARS, MOST_STEPS = 200, 1000, 5000
_PATTERN_BYTES = 512 * 1024
_WINDOW_BYTES = 4 * 1024
# A match that is longer may be missed where two windows meet.
_OVERLAP_BYTES = 1024
_MOST_FOUND = 1000
_LEAST_S, _S_PER_BYTE = 0.1, 1e-7


def faults(patterns: Sequence[str]) -> list[str]:
    """Say what is wrong with each expression that cannot be used, for `check` and `serve`."""
    found = [] if len(patterns) <= MOST_PATTERNS else [f"{len(patterns)} patterns; at most {MOST_PATTERNS} are taken"]
    for number, pattern in enumerate(patterns, 1):
        if (reason := _fault(pattern)) is not None:
            found.append(f"pattern {number}, `{pattern[:80]}`: {reason}")
    return found


def _fault(pattern: str) -> str | None:
    if len(pattern) > LONGEST_PATTERN_CHARS:
        return f"longer than {LONGEST_PATTERN_CHARS} characters; make several of it"
    try:
        found = compiled(pattern, most_bytes=_PATTERN_BYTES)
    except ValueError as error:
        return f"RE2 cannot read it ({error}); look-around and back-references are not part of RE2"
    if found.programsize > MOST_STEPS:
        return f"{found.programsize} steps; at most {MOST_STEPS}: repeat less, or name fewer letters than `.` does"
    if found.search(b"") is not None:
        return "it matches the empty text, and so every prompt"
    return None


class OwnPatterns:
    """Expressions from the settings.

    Args:
        clock: Seconds, growing.

    Raises:
        ValueError: One is faulty; `faults` says which.
    """

    def __init__(self, patterns: Sequence[str], *, clock: Callable[[], float] = time.perf_counter) -> None:
        if wrong := faults(patterns):
            raise ValueError("; ".join(wrong))
        self._compiled = [compiled(pattern, most_bytes=_PATTERN_BYTES) for pattern in patterns]
        self._clock = clock

    def __bool__(self) -> bool:
        return bool(self._compiled)

    def find(self, text: str, raw: bytes) -> Iterator[Found]:
        """Find all places, as characters of the text; `unsearched` when the time was over before its end.

        Args:
            raw: The text in UTF-8.
        """
        ends = self._clock() + _LEAST_S + _S_PER_BYTE * len(raw)
        for one in self._compiled:
            for start, end in self._spans(one, raw, ends):
                if start < 0:
                    yield UNSEARCHED, 0, 0
                    return
                if len(raw) == len(text):
                    yield KIND, start, end
                else:
                    # At most a thousand places: decoding up to each is cheaper than a table of all characters.
                    chars = len(raw[:start].decode(errors="replace"))
                    yield KIND, chars, chars + len(raw[start:end].decode(errors="replace"))

    def _spans(self, expression: Any, raw: bytes, ends: float) -> Iterator[tuple[int, int]]:
        found, at = 0, 0
        for window in range(0, max(len(raw), 1), _WINDOW_BYTES):
            stop = min(window + _WINDOW_BYTES, len(raw))
            at = max(at, window)
            while at < stop or at == 0:
                if self._clock() > ends:
                    yield -1, -1
                    return
                match = expression.search(raw, at, min(stop + _OVERLAP_BYTES, len(raw)))
                if match is None or match.start() >= stop:
                    break
                at = max(match.end(), match.start() + 1)
                yield match.start(), match.end()
                found += 1
                if found >= _MOST_FOUND:
                    return
