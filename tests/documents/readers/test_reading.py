import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgateway.documents.readers import FORMATS
from llmgateway.documents.readers.reading import Document, read, read_text
from llmgateway.errors import DocumentError, GatewayError, RequestTooLargeError

SRT = "1\n00:00:01,000 --> 00:00:02,000\nHello.\n"


def test_a_text_is_read_with_its_lines_ended_by_line_feeds() -> None:
    assert read(b"a\r\n b\r\n", file_name="a.txt") == Document("a\n b\n", "text", "a.txt")


@pytest.mark.parametrize(
    ("content", "expected"),
    [("WEBVTT\n\n00:01.000 --> 00:02.000\nHi", "vtt"), (SRT, "srt"), ("# A\n\n- b\n- c", "markdown"), ("a", "text")],
)
def test_the_content_says_what_it_is_and_the_name_does_not(content: str, expected: str) -> None:
    assert read(content.encode(), file_name="minutes.pdf", media_type="image/png").format == expected
    assert read_text(content).format == expected


def test_the_table_has_a_row_for_each_format() -> None:
    assert list(FORMATS) == ["vtt", "srt", "markdown", "text"]


def test_a_file_of_another_format_is_refused_by_its_name_with_those_that_are_taken() -> None:
    with pytest.raises(DocumentError, match=r"PDF, which is not read\. Taken are .* and plain text") as refused:
        read(b"%PDF-1.7\n%\xe2\xe3", file_name="minutes.txt")

    assert refused.value.code == "unsupported_file"


@pytest.mark.parametrize(
    "content", [b"", b" \n\t\r\n", b"\xef\xbb\xbf", "\u200b\u2060\ufeff".encode(), b"WEBVTT\n\nNOTE nothing\n"]
)
def test_a_document_without_text_is_empty(content: bytes) -> None:
    with pytest.raises(DocumentError) as refused:
        read(content)

    assert refused.value.code == "empty_input"


def test_a_text_of_a_message_can_be_empty_too() -> None:
    with pytest.raises(DocumentError, match="empty"):
        read_text(" \n")


def test_the_two_limits_are_told_with_what_there_is() -> None:
    with pytest.raises(RequestTooLargeError, match=r"4 bytes; .* at most 3"):
        read(b"abcd", most_bytes=3)
    with pytest.raises(RequestTooLargeError, match=r"1,234 characters; .* at most 1,000"):
        read(b"a" * 1234, most_chars=1000)
    assert read("é".encode(), most_bytes=2, most_chars=1).text == "é"


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_what_no_database_keeps_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(DocumentError, match="remove it") as refused:
        read_text(text)

    assert refused.value.code == "unsupported_file"


def test_nul_in_a_file_is_refused_likewise() -> None:
    with pytest.raises(DocumentError, match=r"U\+0000 at 1"):
        read(b"a\0b")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("../../etc/passwd", "passwd"), ("C:\\a\\b.txt", "b.txt"), ("a\nb\x1b[0m", "ab[0m"), ("x/", None), (None, None)],
)
def test_of_the_name_only_the_name_is_kept(given: str | None, kept: str | None) -> None:
    assert read(b"a", file_name=given).name == kept


def test_the_encoding_that_a_sender_names_is_used() -> None:
    assert read("Привет".encode("koi8-r"), media_type='text/plain; charset="KOI8-R"').text == "Привет"


def outcome(content: bytes) -> Document | GatewayError:
    try:
        return read(content)
    except GatewayError as refused:
        return refused


@settings(deadline=None)
@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_read_or_refused_with_a_reason(content: bytes) -> None:
    match outcome(content):
        case Document(text=text):
            assert text.strip()
            assert text.encode()
        case GatewayError(status=status, message=message):
            assert status == 400
            assert message.endswith(".")
