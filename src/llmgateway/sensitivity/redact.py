"""Puts placeholders such as `[EMAIL_1]` where something sensitive was, the same one for the same value."""

import json
from collections.abc import Mapping
from functools import cached_property
from itertools import islice

import msgspec

from llmgateway.sensitivity.restoring import PLACEHOLDER
from llmgateway.sensitivity.scan import Finding, Scanner

# A value that was found by the name before it is taken out wherever else it stands, unless it is a short word.
_LEAST_CHARS = 6
# Each costs a search of the whole text.
_MOST_EVERYWHERE = 100


class Redaction:
    """What was taken out of one call. First every text is looked through, then every text is replaced.

    Args:
        taken: All texts of the call: a placeholder that the client wrote itself is not used for something else.
    """

    def __init__(self, scanner: Scanner, taken: str) -> None:
        self._scanner = scanner
        self._taken = frozenset(PLACEHOLDER.findall(taken))
        self._placeholders: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._found: dict[tuple[str, bool], list[tuple[int, int, str]]] = {}

    @property
    def values(self) -> Mapping[str, str]:
        """What each placeholder stands for."""
        return {placeholder: value for value, placeholder in self._placeholders.items()}

    def look(self, text: str, is_json: bool) -> str:
        """Find what is sensitive in a text, and give the text as it is."""
        if (text, is_json) not in self._found:
            findings = [one for one in self._scanner.scan(text).findings if one.replaceable and one.end > one.start]
            self._found[text, is_json] = [self._place(one, text, is_json) for one in findings]
        return text

    def replace(self, text: str, is_json: bool) -> str:
        """Give a text with placeholders."""
        pieces, at = [], 0
        for start, end, placeholder in self._found.get((text, is_json), ()):
            pieces += [text[at:start], placeholder]
            at = end
        text = "".join((*pieces, text[at:]))
        for value, placeholder in self._everywhere:
            for spelled in _escaped(value) if is_json else (value,):
                text = text.replace(spelled, placeholder)
        return text

    def _place(self, finding: Finding, text: str, is_json: bool) -> tuple[int, int, str]:
        value = text[finding.start : finding.end]
        return finding.start, finding.end, self._placeholder(finding.kind, _unescaped(value) if is_json else value)

    def _placeholder(self, kind: str, value: str) -> str:
        if value not in self._placeholders:
            number = self._counts.get(kind, 0) + 1
            while (placeholder := f"[{kind.upper()}_{number}]") in self._taken:
                number += 1
            self._counts[kind] = number
            self._placeholders[value] = placeholder
        return self._placeholders[value]

    @cached_property
    def _everywhere(self) -> list[tuple[str, str]]:
        # Once for all texts, when each of them was looked through.
        names = "".join(self._placeholders.values())
        known = (pair for pair in self._placeholders.items() if len(pair[0]) >= _LEAST_CHARS and pair[0] not in names)
        # The longest first: one may be the beginning of another.
        return sorted(islice(known, _MOST_EVERYWHERE), key=lambda pair: -len(pair[0]))


def _unescaped(value: str) -> str:
    if "\\" not in value:
        return value
    try:
        return msgspec.json.decode(f'"{value}"', type=str)
    except msgspec.DecodeError:
        return value


def _escaped(value: str) -> set[str]:
    """Give what JSON may write for a text: many a client's library writes ASCII alone."""
    return {json.dumps(value, ensure_ascii=is_ascii)[1:-1] for is_ascii in (True, False)}
