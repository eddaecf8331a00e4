import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.headers import one_line, read_lines, usd, who_answered, write_lines


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0.0, "0"), (1e-9, "0.000000001"), (1e-10, "0"), (0.000075, "0.000075"), (12.5, "12.5"), (1e6, "1000000")],
)
def test_an_amount_has_no_exponent(amount: float, text: str) -> None:
    assert usd(amount) == text


@given(st.text(max_size=400))
def test_a_name_becomes_one_short_line(text: str) -> None:
    line = one_line(text)

    assert len(line) <= 200
    assert line.decode("ascii").isprintable()


def test_who_answered_is_told_in_what_a_header_may_hold() -> None:
    assert who_answered("häuser", "gpt\n4") == b"x-provider: h?user\r\nx-model: gpt?4\r\n"


def test_a_name_with_a_line_break_makes_no_header_of_its_own() -> None:
    assert who_answered("a\r\nset-cookie: b", "m\r\nc: d") == b"x-provider: a??set-cookie: b\r\nx-model: m??c: d\r\n"


def test_what_was_written_can_be_read() -> None:
    headers = [(b"a", b"1"), (b"b", b""), (b"a", b"x: y\t\xe9")]

    assert write_lines(headers) == b"a: 1\r\nb: \r\na: x: y\t\xe9\r\n"
    assert read_lines(write_lines(headers)) == headers
    assert read_lines(write_lines([])) == []


@pytest.mark.parametrize(
    "header", [(b"a", b"1\r\nb: 2"), (b"a", b"1\n"), (b"a\r", b""), (b"a", b"\x00"), (b"a", b"\x7f")]
)
def test_no_header_writes_another(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(RuntimeError):
        write_lines([(b"before", b"1"), header])
