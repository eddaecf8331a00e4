"""Markdown: a text that says so by its marks. It is kept as it is: a model reads it like that."""

import re

from llmgateway.documents.readers.content import Content

_HEAD_CHARS = 20_000
# Of these, two kinds: one alone stands in many a text that is none.
_MARKS = (
    re.compile(r"^ {0,3}#{1,6}[ \t]+\S", re.MULTILINE),
    re.compile(r"^ {0,3}(?:```|~~~)", re.MULTILINE),
    re.compile(r"^ {0,3}\|?[ \t]*:?-{2,}:?[ \t]*\|[ \t|:-]*$", re.MULTILINE),
    re.compile(r"\[[^\]\n]{1,200}\]\([^)\s]{1,500}\)"),
    re.compile(r"(?<![*\w])\*\*[^*\n]{1,200}\*\*(?![*\w])"),
    re.compile(r"^ {0,3}[-*+][ \t]+\S.*\n {0,3}[-*+][ \t]+\S", re.MULTILINE),
    re.compile(r"^ {0,3}>[ \t]", re.MULTILINE),
    re.compile(r"(?<!`)`[^`\n]{1,200}`(?!`)"),
)
_ENOUGH = 2


def is_markdown(content: Content) -> bool:
    """Whether at least two kinds of marks are near its beginning."""
    head = content.text[:_HEAD_CHARS]
    return sum(mark.search(head) is not None for mark in _MARKS) >= _ENOUGH


def text_of(content: Content) -> str:
    """Give it as it is."""
    return content.text
