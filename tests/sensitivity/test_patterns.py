import re
import re._parser as parser  # type: ignore[import-not-found]  # how an expression is built is not public
from collections.abc import Iterator
from typing import Any

import pytest

from llmgateway.sensitivity.linear import compiled
from llmgateway.sensitivity.patterns import SHAPES, Shape

REPEATS = {"MAX_REPEAT", "MIN_REPEAT"}
# Repetitions of a group that holds one itself, each with its reason.
NESTED = {
    "private_key": "at most four lines, each begins with a word of its own",
    "email": "at most six parts, each ends in a dot, which is in none of them",
}


def repetitions(tree: Any, depth: int = 0) -> Iterator[tuple[int, int]]:
    """Yield depth and bound of every repetition that can give back what it took."""
    for kind, argument in tree:
        inner = depth
        if str(kind) in REPEATS:
            most = int(argument[1])
            if most > 1:
                inner += 1
                yield inner, most
        yield from (found for part in parts(argument) for found in repetitions(part, inner))


def parts(argument: Any) -> Iterator[Any]:
    if isinstance(argument, parser.SubPattern):
        yield argument
    elif isinstance(argument, list | tuple):
        for one in argument:
            yield from parts(one)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.kind}-{shape.marks[0]}")
def test_every_repetition_is_bounded_or_gives_nothing_back(shape: Shape) -> None:
    found = list(repetitions(parser.parse(shape.expression.pattern, shape.expression.flags)))

    assert all(most <= 200 for _, most in found)
    assert all(depth == 1 for depth, _ in found) or shape.kind in NESTED


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.kind}-{shape.marks[0]}")
def test_marks_are_in_lower_case_and_gates_are_re2s(shape: Shape) -> None:
    assert all(mark == mark.lower() and mark for mark in shape.marks)
    assert compiled(f"(?i){shape.gate}", most_bytes=1 << 20).search("") is None
    assert 0 < shape.weight <= 1


def test_kinds_make_good_placeholders() -> None:
    assert [shape.kind for shape in SHAPES if not re.fullmatch(r"[a-z]+(_[a-z]+)*", shape.kind)] == []
