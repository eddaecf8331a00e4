"""Files that are known and not read: how they begin, and what they are called in the refusal."""

import re

_HEAD_BYTES = 4096
_ZIP = b"PK\x03\x04"
# What is found in a zip archive's first names, or anywhere: names of parts are not compressed.
_IN_ZIP = (
    (b"word/", "DOCX"),
    (b"xl/", "XLSX"),
    (b"ppt/", "PPTX"),
    (b"opendocument.text", "ODT"),
    (b"opendocument", "OpenDocument"),
    (b"epub+zip", "EPUB"),
)
_BEGINNINGS = (
    (re.compile(rb"(?:\xef\xbb\xbf)?\s{0,200}%PDF-\d"), "PDF"),
    (re.compile(rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "old or encrypted Office"),
    (re.compile(rb"\{\\rtf"), "RTF"),
    (
        re.compile(rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a|RIFF....WEBP|II\*\x00|MM\x00\*|BM....\x00\x00", re.DOTALL),
        "image",
    ),
    (re.compile(rb"\x00\x00..ftyp(?:heic|heix|mif1|avif)", re.DOTALL), "image"),
    (
        re.compile(
            rb"\x00\x00..ftyp(?:M4A|M4B)|ID3[\x02-\x04]|\xff[\xf2\xf3\xfa\xfb]|RIFF....WAVE|OggS\x00|fLaC\x00",
            re.DOTALL,
        ),
        "audio",
    ),
    (re.compile(rb"\x00\x00..ftyp|\x1aE\xdf\xa3|RIFF....AVI ", re.DOTALL), "video"),
    (re.compile(rb"\x1f\x8b|7z\xbc\xaf|Rar!\x1a|BZh[1-9]1AY|\xfd7zXZ|\x28\xb5\x2f\xfd"), "compressed"),
    (re.compile(rb"\x7fELF|MZ[\s\S]{58}[\s\S]{0,512}PE\x00\x00|\xcf\xfa\xed\xfe"), "program"),
    (re.compile(rb"SQLite format 3\x00"), "SQLite"),
    (
        re.compile(
            rb"(?:\xef\xbb\xbf)?\s{0,200}(?:<!--[\s\S]{0,2000}?-->\s{0,200})?(?:<!doctype html|<html[\s>])",
            re.IGNORECASE,
        ),
        "HTML",
    ),
    (
        re.compile(
            rb"(?=(?:[A-Za-z][A-Za-z0-9-]{1,60}:[^\n]*\n(?:[ \t][^\n]*\n)*){0,60}?MIME-Version:)"
            rb"(?:Return-Path|Received|From|To|Date|Subject|Message-ID|MIME-Version|Delivered-To|X-[A-Za-z-]{1,40}):",
            re.IGNORECASE,
        ),
        "e-mail (EML)",
    ),
)


def known_as(raw: bytes) -> str | None:
    """Name the format of a file that is recognised and not read; `None`: it is none of these."""
    if raw.startswith(_ZIP):
        return next((name for mark, name in _IN_ZIP if mark in raw), "zip")
    head = raw[:_HEAD_BYTES]
    return next((name for beginning, name in _BEGINNINGS if beginning.match(head)), None)
