import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.catalog.building.yaml_text import hide_variables, read, variables_in


def test_values_are_plain_and_lines_are_known() -> None:
    reading = read("a: 1\nb:\n  - x\n  - {c: true, d: 2.5, e: null, f: 2026-01-02}\n", {})

    assert reading.value == {"a": 1, "b": ["x", {"c": True, "d": 2.5, "e": None, "f": "2026-01-02"}]}
    assert (reading.line_of(("a",)), reading.line_of(("b",)), reading.line_of(("b", 1, "d"))) == (1, 2, 4)
    assert reading.line_of(("b", 1, "nothing")) == 4
    assert reading.faults == []


def test_an_empty_text_is_no_value() -> None:
    assert read("", {}).value is None
    assert read("# only a comment\n", {}).value is None


def test_variables_are_put_in_and_their_place_is_known() -> None:
    reading = read("a: ${A}\nb: x-${A}-${B:-two words}\nc: ${C:-}\nd: plain $A {A}\n", {"A": "1", "C": ""})

    assert reading.value == {"a": "1", "b": "x-1-two words", "c": None, "d": "plain $A {A}"}
    assert reading.expanded == {("a",), ("b",), ("c",)}


def test_a_variables_value_is_not_read_as_yaml() -> None:
    assert read("a: ${A}", {"A": "{b: [1]} # x: ${B}"}).value == {"a": "{b: [1]} # x: ${B}"}


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\na: 2\n", 2, "stands here twice"),
        ("a: ${NO}\n", 1, "the environment variable NO is not set"),
        ("a: ${1x}\n", 1, "is not a variable"),
        ("a: 1\n b: 2\n", 2, "not YAML"),
        ("a: *nowhere\n", 1, "not YAML: found undefined alias"),
        ("a: !!int x\n", 1, "put it in quotes"),
        ("a: \x00\n", 1, "not YAML"),
        ("a: &a {<<: [1]}\n", 1, "`<<` takes a mapping"),
        ("[" * 100 + "]" * 100, 1, "nested deeper"),
        ("[" * 100_000, 1, "nested deeper"),
        ("a: &a [*a]\n", 1, "contain themselves"),
    ],
)
def test_what_is_wrong_is_a_fault_with_its_line(text: str, line: int, message: str) -> None:
    faults = read(text, {}).faults

    assert faults[0][0] == line
    assert message in faults[0][2]


def test_aliases_and_merges_are_followed() -> None:
    reading = read("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: {<<: [*x, {c: 4}]}\n", {})

    assert reading.value == {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}, "z": {"a": 1, "b": 2, "c": 4}}


def test_a_bomb_of_aliases_is_one_fault_and_cheap() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]

    reading = read("\n".join(lines), {})

    assert ["contain themselves" in message for _, _, message in reading.faults] == [True]
    assert len(reading.lines) < 200_000


@given(st.text())
def test_no_text_raises(text: str) -> None:
    read(text, {})


def test_values_of_the_environment_are_put_back_into_their_names() -> None:
    environ = {"KEY": "secret", "LONGER": "secret-too", "SHORT": "abc", "OTHER": "elsewhere"}
    variables = variables_in("a: ${KEY}, b: ${LONGER:-x}, c: ${SHORT}, d: ${NONE}", environ)

    assert variables == {"secret": "${KEY}", "secret-too": "${LONGER}"}
    assert hide_variables(variables, "abc secret-too elsewhere 'secret'") == "abc ${LONGER} elsewhere '${KEY}'"
