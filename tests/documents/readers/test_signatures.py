import io
import zipfile

import pytest

from llmgateway.documents.readers.signatures import known_as

MAIL = b"Received: from a\n by b\nFrom: anna@example.org\nSubject: x\nMIME-Version: 1.0\n\nhello"


def archive(*names: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as made:
        for name in names:
            made.writestr(name, "x" * 100)
    return held.getvalue()


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"%PDF-1.7\n", "PDF"),
        (b"\n\n%PDF-1.4", "PDF"),
        (archive("[Content_Types].xml", "word/document.xml"), "DOCX"),
        (archive("[Content_Types].xml", "xl/workbook.xml"), "XLSX"),
        (archive("ppt/presentation.xml"), "PPTX"),
        (archive("notes.txt"), "zip"),
        (b"PK\x03\x04....mimetypeapplication/vnd.oasis.opendocument.text", "ODT"),
        (b"PK\x03\x04....mimetypeapplication/epub+zip", "EPUB"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old or encrypted Office"),
        (rb"{\rtf1\ansi", "RTF"),
        (b"\x89PNG\r\n\x1a\n", "image"),
        (b"\xff\xd8\xff\xe0", "image"),
        (b"RIFF\x00\x00\x00\x00WEBP", "image"),
        (b"RIFF\x00\x00\x00\x00WAVE", "audio"),
        (b"\x00\x00\x00 ftypisom", "video"),
        (b"\x1f\x8b\x08", "compressed"),
        (b"\x7fELF\x02", "program"),
        (b"SQLite format 3\x00", "SQLite"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><p>", "HTML"),
        (b"<!-- made --><html lang=en>", "HTML"),
        (MAIL, "e-mail (EML)"),
    ],
)
def test_a_known_file_is_named(raw: bytes, name: str) -> None:
    assert known_as(raw) == name


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"Anna: hello",
        b"From: here\nto there, on foot",
        b"BM is a brand",
        b"<v Anna>hello",
        b"The ftyp box of a video",
        b"A file begins with %PDF-1.7, they said",
        b"MIME-Version: what is it?"[:4],
    ],
)
def test_a_text_is_none_of_them(raw: bytes) -> None:
    assert known_as(raw) is None


def test_headers_without_end_are_looked_at_in_no_time() -> None:
    assert known_as(b"A: b\n c\n" * 1_000_000) is None
