"""Personal data that is known by its checksum: cards, accounts, numbers that states give their people."""

import re
from collections.abc import Iterator

from llmgateway.sensitivity import checks
from llmgateway.sensitivity.linear import own

# A number begins where no letter or digit stands before, or after an escape of JSON or of an address.
START = r"(?:(?<![A-Za-z0-9])|(?<=\\[nrtbf])|(?<=%[0-9A-Fa-f]{2})|(?<=\\u[0-9A-Fa-f]{4}))"
COUNTRIES = "|".join(checks.IBAN_CHARS).lower()

# It begins with a digit and not with what must stand before it: that is looked for ten times faster.
_RUN = re.compile(r"[0-9](?:[ -]?[0-9]){8,}+")
_GROUP = re.compile(r"(?<![0-9])(?<![0-9][.,])" + START + "[0-9]")
_END = r"(?![A-Za-z0-9]|[.,][0-9])"
_CARD = re.compile(
    r"(?=[2-6])(?:[0-9]{4}([ -]?)[0-9]{4}\1[0-9]{4}\1[0-9]{4}|3[0-9]{3}([ -]?)[0-9]{6}\2[0-9]{4,5}|[0-9]{13,19})" + _END
)
_TAX_ID = re.compile(r"(?:[0-9]{11}|[0-9]{2} [0-9]{3} [0-9]{3} [0-9]{3})" + _END)
_NIR = re.compile(r"(?=[12])(?:[0-9]{15}|[0-9] [0-9]{2} [0-9]{2} [0-9]{2} [0-9]{3} [0-9]{3} [0-9]{2})" + _END)
_SSN = re.compile(r"[0-9]{3}-[0-9]{2}-[0-9]{4}(?!-?[0-9])" + _END)
# Without the group it is the cheap question whether there is one at all.
IBAN_GATE = (
    rf"(?:^|[^a-z0-9]|\\[nrt]|%[0-9a-f]{{2}})((?:{COUNTRIES})[0-9]{{2}} ?[a-z0-9]{{4}} ?[a-z0-9]{{4}} ?[a-z0-9])"
)
NINO_GATE = r"(?:^|[^a-z0-9]|\\[nrt]|%[0-9a-f]{2})([a-z]{2}(?: ?[0-9]{2}){3} ?[a-d])(?:[^a-z0-9]|$)"
_ALNUM = re.compile("[A-Za-z0-9]")
_NINO_NEAR = ("insurance", "nino", "ni no", "ni number")
_NEAR_CHARS = 40

Found = tuple[str, int, int]  # kind, start, end


def numbers(text: str, _lower: str) -> Iterator[Found]:
    """Find cards and the ids that consist of digits alone."""
    for run in _RUN.finditer(text):
        # Most have no separators, and so one place to begin at: then there is nothing to search for.
        first = _GROUP.match(text, run.start())
        alone = run[0].isdigit()
        end = run.start()
        for group in ((first,) if first else ()) if alone else _GROUP.finditer(text, run.start(), run.end()):
            if group.start() >= end and (found := _number(text, group.start())) is not None:
                end = found[2]
                yield found


def _number(text: str, at: int) -> Found | None:
    for kind, expression, check in (
        ("card_number", _CARD, checks.is_card),
        ("french_nir", _NIR, checks.is_french_nir),
        ("german_tax_id", _TAX_ID, checks.is_german_tax_id),
        ("us_ssn", _SSN, checks.is_us_ssn),
    ):
        match = expression.match(text, at)
        if match and check(match[0].replace(" ", "").replace("-", "")):
            return kind, at, match.end()
    return None


def accounts(text: str, _lower: str) -> Iterator[Found]:
    """Find IBANs: the country says how many letters and digits follow, alone or in groups of four."""
    for head in own(IBAN_GATE).finditer(text):
        start = head.start(1)
        wanted = checks.IBAN_CHARS.get(text[start : start + 2].upper(), 0)
        taken, end = "", start
        while len(taken) < wanted and end < len(text):
            char = text[end]
            if char.isascii() and char.isalnum():
                taken += char.upper()
            elif char != " " or len(taken) % 4:
                break
            end += 1
        if not _ALNUM.match(text, end) and checks.is_iban(taken):
            yield "iban", start, end


def insurance_numbers(text: str, lower: str) -> Iterator[Found]:
    """Find UK National Insurance numbers: they have no checksum, so it is in pairs, or its name stands before it."""
    for match in own(NINO_GATE).finditer(text):
        start, end = match.span(1)
        near = lower[max(0, start - _NEAR_CHARS) : start]
        named = " " in match[1] or any(word in near for word in _NINO_NEAR)
        if named and checks.is_uk_nino(match[1].replace(" ", "").upper()):
            yield "uk_nino", start, end
