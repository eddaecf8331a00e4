import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.headers import one_line, usd, who_answered


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
    assert who_answered("häuser", "gpt\n4") == ((b"x-provider", b"h?user"), (b"x-model", b"gpt?4"))
