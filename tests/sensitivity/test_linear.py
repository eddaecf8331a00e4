import subprocess
import sys

import pytest

from llmgateway.sensitivity.linear import compiled, own, together


def test_one_pass_says_which_of_many_are_found() -> None:
    automaton = together(["akia", "ghp_", "[0-9]{3}"], most_bytes=1 << 20)

    assert sorted(automaton.Match("AKIA 123")) == [0, 2]
    assert automaton.Match("nothing") is None


@pytest.mark.parametrize("expression", ["(", r"(a)\1", "(?<=a)b", "a{1001}"])
def test_what_re2_cannot_read_is_an_error_with_its_reason(expression: str) -> None:
    with pytest.raises(ValueError, match=r"\w{4}"):
        compiled(expression, most_bytes=1 << 20)


def test_an_expression_has_a_size() -> None:
    with pytest.raises(ValueError, match="large"):
        compiled(r"(\pL{30}){30}", most_bytes=1 << 16)


def test_our_own_ignore_case_and_are_made_once() -> None:
    assert own("abc").search("xABCx")
    assert own("abc") is own("abc")


def test_nobody_pays_for_it_who_does_not_scan() -> None:
    code = "import sys, llmgateway.gateway.layers.sensitivity; sys.exit('re2' in sys.modules)"

    ended = subprocess.run([sys.executable, "-c", code], check=False, timeout=20)  # noqa: S603  our own interpreter

    assert ended.returncode == 0
