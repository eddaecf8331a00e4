"""Whether a number or a word can be what its shape says: checksums, rules of the issuers, and how random it looks."""

import base64
import binascii
import math
import re
from collections import Counter

# Lengths of IBANs by country (SWIFT, IBAN registry).
IBAN_CHARS = {
    country: int(chars)
    for country, chars in re.findall(
        "([A-Z]{2})([0-9]{2})",
        "NO15 BE16 DK18 FI18 FO18 GL18 NL18 MK19 SI19 AT20 BA20 EE20 KZ20 LT20 LU20 XK20 CH21 HR21 LI21 LV21 "
        "BG22 BH22 CR22 DE22 GB22 GE22 IE22 ME22 RS22 AE23 GI23 IL23 IQ23 AD24 CZ24 ES24 MD24 PK24 RO24 SA24 "
        "SE24 SK24 TN24 VG24 PT25 IS26 TR26 FR27 GR27 IT27 MC27 SM27 AL28 AZ28 CY28 DO28 GT28 HU28 LB28 PL28 "
        "UA29 BR29 QA29 JO30 KW30 MT31 ",
    )
}
# First digits and lengths of cards in use (ISO/IEC 7812, as the networks publish them).
_CARDS = (
    (re.compile("4"), {13, 16, 19}),
    (re.compile("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), {16}),
    (re.compile("3[47]"), {15}),
    (re.compile("6011|64[4-9]|65"), {16, 19}),
    (re.compile("30[0-5]|36|38|39"), {14}),
    (re.compile("352[89]|35[3-8]"), {16}),
    (re.compile("62"), {16, 17, 18, 19}),
)
_DNI_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"
_BSN_WEIGHTS = (9, 8, 7, 6, 5, 4, 3, 2, -1)
# HMRC, National Insurance Manual 39110: prefixes that are never given out.
_NO_NINO = frozenset({"BG", "GB", "NK", "KN", "TN", "NT", "ZZ"})
# What stands in examples where a password or a key would.
_DUMMIES = re.compile(
    r"(?i:^(?:pass(?:word|wd|phrase)?|passwort|pwd|secret|guest|root|admin|user(?:name)?|postgres|mysql|test|token|key"
    r"|example|changeme|change[_-]me|none|null|true|false|undefined|required|redacted|hidden|string|str|value)\d{0,3}$"
    r"|^(?:your|my|some|the|insert|enter|replace|put)[_ -]|[_-]here$|placeholder|xxxx|\*\*\*\*|\.\.\.)"
)
_CODE = re.compile(r"[$<{\[(%]|[A-Za-z_$][\w.]*[(\[{]|/|\.{1,2}/|~/|[A-Za-z]:\\|[a-z]+://|&")
_RULES = re.compile(r"[a-z_]+(?::\w+)?(?:\|[a-z_]+(?::\w+)?)+")
_SEGMENTS = re.compile(r"[A-Za-z0-9+/]+")
_FEW_CHARS = 4


def luhn(digits: str) -> bool:
    """Whether the last digit is the checksum of the others (ISO/IEC 7812-1)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        twice = int(digit) * (1 + place % 2)
        total += twice - 9 if twice > 9 else twice  # noqa: PLR2004  two digits: their sum
    return total % 10 == 0


def is_card(digits: str) -> bool:
    """Whether this may be a card's number: a network's first digits and length, and the checksum."""
    known = any(first.match(digits) and len(digits) in lengths for first, lengths in _CARDS)
    return known and luhn(digits)


def is_iban(text: str) -> bool:
    """Whether this is an IBAN, without spaces and in capitals (ISO 13616)."""
    if len(text) != IBAN_CHARS.get(text[:2]) or not text.isalnum():
        return False
    turned = text[4:] + text[:4]
    return int("".join(str(int(char, 36)) for char in turned)) % 97 == 1


def is_german_tax_id(digits: str) -> bool:
    """Whether these eleven digits are a Steuer-ID: one of the first ten comes twice or three times, and a checksum."""
    first, counts = digits[:10], Counter(digits[:10]).values()
    if len(digits) != 11 or digits[0] == "0" or max(counts) not in {2, 3}:  # noqa: PLR2004
        return False
    if sum(count > 1 for count in counts) != 1:
        return False
    product = 10
    for digit in first:  # ISO/IEC 7064, MOD 11,10
        product = ((int(digit) + product) % 10 or 10) * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def is_french_nir(digits: str) -> bool:
    """Whether these fifteen digits are a French social security number: sex, month, and a key modulo 97."""
    if len(digits) != 15 or digits[0] not in "12":  # noqa: PLR2004
        return False
    month = int(digits[3:5])
    plausible = 1 <= month <= 12 or 20 <= month <= 42  # noqa: PLR2004  the latter: the month is not known
    return plausible and 97 - int(digits[:13]) % 97 == int(digits[13:])


def is_spanish_id(text: str) -> bool:
    """Whether this is a DNI, or an NIE, in capitals: the letter at its end is a checksum."""
    number = {"X": "0", "Y": "1", "Z": "2"}.get(text[0], text[0]) + text[1:-1]
    return number.isdigit() and _DNI_LETTERS[int(number) % 23] == text[-1]


def is_dutch_bsn(digits: str) -> bool:
    """Whether these nine digits pass the elfproef."""
    total = sum(int(digit) * weight for digit, weight in zip(digits, _BSN_WEIGHTS, strict=False))
    return len(digits) == len(_BSN_WEIGHTS) and total > 0 and total % 11 == 0


def is_us_ssn(text: str) -> bool:
    """Whether these are three, two and four digits that the SSA gives out (SSA, RM 10201.035)."""
    digits = text.replace("-", "").replace(" ", "")
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    known_fake = digits in {"123456789", "078051120", "219099999"}
    return area not in {"000", "666"} and area < "900" and group != "00" and serial != "0000" and not known_fake


def is_uk_nino(text: str) -> bool:
    """Whether this National Insurance number, without spaces and in capitals, has a prefix that is given out."""
    return text[:2] not in _NO_NINO and text[0] not in "DFIQUV" and text[1] not in "DFIOQUV"


def entropy_bits(text: str) -> float:
    """Give Shannon's entropy of a text's characters, in bits each: words have about 3, keys 4 and more."""
    size = len(text)
    return -sum(count / size * math.log2(count / size) for count in Counter(text).values()) if size else 0.0


def is_dummy(value: str) -> bool:
    """Whether this stands in an example or in code where a secret would: `changeme`, `<password>`, `${DB_PASSWORD}`."""
    return _DUMMIES.search(value) is not None or len(set(value)) < _FEW_CHARS or _CODE.match(value) is not None


def looks_drawn(value: str) -> bool:
    """Whether this has letters and digits, and few of them twice: what follows a prefix that nothing else has."""
    mixed = any(char.isdigit() for char in value) and any(char.isalpha() for char in value)
    return mixed and entropy_bits(value) >= 3 and not is_dummy(value)  # noqa: PLR2004  sixteen hexadecimal digits: 3.2


def looks_random(value: str) -> bool:
    """Whether a long part of this is drawn rather than written: letters and digits mixed, few of them twice."""
    if is_dummy(value):
        return False
    longest = max(_SEGMENTS.findall(value), key=len, default="")
    if len(longest) < 16:  # noqa: PLR2004  the shortest key in use
        longest = value if len(value) >= 32 and entropy_bits(value) > 4 else ""  # noqa: PLR2004  one with many dashes
    mixed = any(char.isdigit() for char in longest) and any(char.isalpha() for char in longest)
    return mixed and entropy_bits(longest) >= 3  # noqa: PLR2004  sixteen hexadecimal digits have some 3.2


def is_password(value: str) -> bool:
    """Whether this, after `password =`, is one rather than a word, a type, a rule or an expression."""
    if is_dummy(value) or _RULES.fullmatch(value):
        return False
    odd = [char for char in value if not (char.isalpha() or char in "_.- ")]
    return bool(odd) and (any(char.isalpha() for char in value) or len(value) >= 8)  # noqa: PLR2004


def is_basic_auth(value: str) -> bool:
    """Whether this is a user's name and password in base64."""
    try:
        plain = base64.b64decode(value + "=" * (-len(value) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return False
    return ":" in plain and plain.isprintable()
