import pytest

from llmgateway.documents.readers.decoding import decoded
from llmgateway.errors import DocumentError

TEXT = "Grüße — 田中, Иван, 👋"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_utf_8_and_whatever_has_a_mark_is_read(encoding: str) -> None:
    assert decoded(TEXT.encode(encoding)) == TEXT


@pytest.mark.parametrize(("mark", "encoding"), [(b"\xfe\xff", "utf-16-be"), (b"\x00\x00\xfe\xff", "utf-32-be")])
def test_the_mark_tells_the_order_of_the_bytes(mark: bytes, encoding: str) -> None:
    assert decoded(mark + TEXT.encode(encoding)) == TEXT


def test_a_western_text_of_old_is_read() -> None:
    text = "Café déjà vu: “voilà” — 5 €, l'été s'en va, et Müller aussi…"

    assert decoded(text.encode("cp1252")) == text


def test_a_named_encoding_is_believed_where_the_bytes_are_not_utf_8() -> None:
    assert decoded("Привет, как дела?".encode("cp1251"), "windows-1251") == "Привет, как дела?"
    assert decoded("é".encode(), "windows-1251") == "é"


@pytest.mark.parametrize("charset", ["unicode_escape", "no-such-thing", "zlib", "\0", ""])
def test_a_name_of_no_encoding_of_texts_is_not_used(charset: str) -> None:
    assert decoded(b"caf\xe9 \\u0041 is what we had that morning", charset).startswith("café \\u0041")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("Привет, как дела сегодня?".encode("cp1251"), "cannot be told for sure"),
        ("会議は月曜日です。".encode("shift_jis"), "not UTF-8|not a text|cannot be told"),
        ("Größe und Länge: schön".encode()[:-1] + b"\xff\xfe", "broken at byte"),
        ("田中さん".encode()[:-1], "broken at byte 9"),
        (b"\xef\xbb\xbfok \xff", "no text in utf-8: byte 3"),
        (b"\xff\xfea", "no text in utf-16-le"),
        (bytes(range(256)), "not a text"),
        (b"caf\xe9 \x81\x8d " + b"word " * 30, "no text in cp1252"),
    ],
)
def test_what_cannot_be_known_for_sure_is_refused_with_what_to_do(raw: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason) as refused:
        decoded(raw)

    assert refused.value.code == "unsupported_file"
    assert "UTF-8" in refused.value.message


def test_bytes_that_are_not_what_their_sender_calls_them_are_refused() -> None:
    with pytest.raises(DocumentError, match="broken at byte 3"):
        decoded(b"caf\xe9", "utf-8")
    with pytest.raises(DocumentError, match="no text in shift_jis"):
        decoded(b"\x81", "shift_jis")
