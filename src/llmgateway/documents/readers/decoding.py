"""From bytes to characters: UTF-8, what a byte order mark says, and else only what is very likely right.

A wrong guess is worse than a refusal: nobody sees it until the answer is nonsense.
"""

import codecs
import re

from llmgateway.errors import DocumentError

# UTF-32 first: its mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# What a sender may name; Python knows more, and some of them are no encodings of texts.
_CHARSETS = re.compile(
    "ascii|big5|cp125[0-8]|cp932|euc_(?:jp|kr)|gb18030|gb2312|gbk|iso2022_jp|iso8859-(?:[1-9]|13|15)|koi8-[ru]"
    "|shift_jis|tis-620|utf-(?:8|16|32)(?:-[bl]e)?"
)
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_SEQUENCE = re.compile(rb"[\xc3-\xf4][\x80-\xbf]+")
# Bytes of a character: were the text UTF-8, as many at most would belong to each sequence.
_LONGEST = 4
_ABOVE_ASCII = re.compile(rb"[\x80-\xff]")
# Of all bytes. French and Czech have 4 to 15 in a hundred; Cyrillic or Greek in one byte each have 80.
_MOST_ABOVE_ASCII = 0.25
_SAVE_AS = "Save it as UTF-8 and send it again."


def decoded(raw: bytes, charset: str | None = None) -> str:
    """Decode a text.

    Args:
        charset: Tried where it is neither UTF-8 nor marked.

    Raises:
        DocumentError: It is no text, or in an encoding that cannot be known for sure (`unsupported_file`).
    """
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return _strictly(raw[len(mark) :], encoding)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        return _otherwise(raw, charset, error.start)


def _otherwise(raw: bytes, charset: str | None, at_byte: int) -> str:
    known = _known(charset)
    if known is not None and known != "utf-8":
        return _strictly(raw, known)
    if _CONTROLS.search(raw):
        raise _refused("The file is not a text: it holds bytes that no text has. Text is taken in UTF-8.")
    if len(_SEQUENCE.findall(raw)) * _LONGEST >= len(_ABOVE_ASCII.findall(raw)) or known == "utf-8":
        raise _refused(f"The file is UTF-8, but broken at byte {at_byte:,}. {_SAVE_AS}")
    if len(_ABOVE_ASCII.findall(raw)) > len(raw) * _MOST_ABOVE_ASCII:
        raise _refused(f"The file is a text in an encoding that is not UTF-8 and cannot be told for sure. {_SAVE_AS}")
    return _strictly(raw, "cp1252")


def _strictly(raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise _refused(f"The file is no text in {encoding}: byte {error.start:,} is not. {_SAVE_AS}") from None


def _known(charset: str | None) -> str | None:
    try:
        name = codecs.lookup(charset).name if charset else None
    except (LookupError, ValueError):
        return None
    return name if name and _CHARSETS.fullmatch(name) else None


def _refused(message: str) -> DocumentError:
    return DocumentError(message, code="unsupported_file")
