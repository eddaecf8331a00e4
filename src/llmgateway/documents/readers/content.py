"""What a reader is given and what it is: the seam between the table of formats and the files of this folder."""

from collections.abc import Callable
from functools import cached_property

from msgspec import Struct

from llmgateway.documents.readers.decoding import decoded


class Content:
    """A file: its bytes, and its characters if it has any.

    Args:
        charset: As whoever sent it calls its encoding; believed only where the bytes are not UTF-8.
    """

    def __init__(self, raw: bytes, charset: str | None = None) -> None:
        self.raw = raw
        self._charset = charset

    @classmethod
    def of(cls, text: str) -> "Content":
        """Make it of what is text already."""
        content = cls(b"")
        content.text = text
        return content

    @cached_property
    def text(self) -> str:
        """Its characters, lines ended by line feeds. Raises: DocumentError: It has none."""
        return with_line_feeds(decoded(self.raw, self._charset))


class Format(Struct, frozen=True):
    """A row of the table.

    Args:
        title: For people.
        recognises: Whether a content is of this format; never raises.
        text_of: Reads it. Raises: DocumentError: It is broken.
    """

    title: str
    recognises: Callable[[Content], bool]
    text_of: Callable[[Content], str]


def with_line_feeds(text: str) -> str:
    """End every line with a line feed, whichever system wrote it; all else stays as it is."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
