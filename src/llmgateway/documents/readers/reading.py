"""Reads a document: what it is shows in its content, never in its name."""

import re

from msgspec import Struct

from llmgateway.documents.readers import FORMATS
from llmgateway.documents.readers.content import Content, with_line_feeds
from llmgateway.documents.readers.signatures import known_as
from llmgateway.errors import DocumentError, RequestTooLargeError

MOST_BYTES = 20 * 1024 * 1024
MOST_CHARS = 5_000_000

_CHARSET = re.compile(r";\s*charset\s*=\s*\"?([\w.:-]{1,40})", re.IGNORECASE)
# Some characters show nothing and are no white space either.
_VISIBLE = re.compile(r"[^\s\ufeff\u200b\u2060]")


class Document(Struct, frozen=True):
    """A document that was read.

    Args:
        text: Its lines end with a line feed.
        format: Of the table `FORMATS`.
        name: Of the file it came in, for people; without folders.
    """

    text: str
    format: str
    name: str | None = None


def read(
    content: bytes,
    *,
    file_name: str | None = None,
    media_type: str | None = None,
    most_bytes: int = MOST_BYTES,
    most_chars: int = MOST_CHARS,
) -> Document:
    """Read a file.

    Args:
        file_name: Kept for people; it decides nothing.
        media_type: Only its `charset` is looked at, and only where the bytes are not UTF-8.

    Raises:
        DocumentError: It is empty (`empty_input`), or nothing that can be read (`unsupported_file`).
        RequestTooLargeError: It is larger than a document may be.
    """
    if len(content) > most_bytes:
        raise RequestTooLargeError(f"The file has {len(content):,} bytes; a document has at most {most_bytes:,}.")
    known = known_as(content)
    if known is not None:
        raise DocumentError(
            f"The file is of the format {known}, which is not read. {_taken()}", code="unsupported_file"
        )
    charset = _CHARSET.search(media_type or "")
    return _document(Content(content, charset[1] if charset else None), file_name, most_chars)


def read_text(text: str, *, file_name: str | None = None, most_chars: int = MOST_CHARS) -> Document:
    """Take what came as text already, in a message or in a field of JSON.

    Raises:
        DocumentError: It is empty (`empty_input`), or has what no text has (`unsupported_file`).
        RequestTooLargeError: It is longer than a document may be.
    """
    return _document(Content.of(with_line_feeds(text)), file_name, most_chars)


def _document(content: Content, file_name: str | None, most_chars: int) -> Document:
    format_, row = next((name, row) for name, row in FORMATS.items() if row.recognises(content))
    text = row.text_of(content)
    _check(text, most_chars)
    return Document(text, format_, _bare(file_name))


def _check(text: str, most_chars: int) -> None:
    if len(text) > most_chars:
        raise RequestTooLargeError(f"The document has {len(text):,} characters; it may have at most {most_chars:,}.")
    if not _VISIBLE.search(text):
        raise DocumentError("The document is empty: there is no text in it.", code="empty_input")
    if "\0" in text:
        # PostgreSQL keeps no such character, and nobody types one: the file is binary or broken.
        raise DocumentError(
            f"The document holds the character U+0000 at {text.index(chr(0)):,}, which no text has; remove it.",
            code="unsupported_file",
        )
    try:
        text.encode()  # ten times as fast as a search, during which no other thread runs
    except UnicodeEncodeError:
        raise DocumentError(
            "The document holds half a character (a lone surrogate); remove it.", code="unsupported_file"
        ) from None


def _taken() -> str:
    *titles, last = (row.title for row in FORMATS.values())
    return f"Taken are {', '.join(titles)} and {last}."


def _bare(file_name: str | None) -> str | None:
    """Take the folders off, as any system writes them, and what does not show."""
    name = re.split(r"[/\\]", file_name or "")[-1]
    return "".join(char for char in name if char.isprintable()).strip()[:255] or None
