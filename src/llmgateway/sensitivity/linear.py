"""RE2, whose time grows with the text whatever the expression: the one module that imports it, and lazily."""

from collections.abc import Iterable
from functools import cache
from typing import Any


def compiled(expression: str, *, most_bytes: int, case_sensitive: bool = True) -> Any:
    """Compile an expression.

    Args:
        most_bytes: Memory for its program and its automaton.

    Raises:
        ValueError: RE2 cannot read it, or it is too large.
    """
    # A C library that only those pay for who turn the scanner on.
    import re2  # type: ignore[import-untyped]  # noqa: PLC0415  it has no types

    try:
        return re2.compile(expression, _options(re2, most_bytes, case_sensitive=case_sensitive))
    except re2.error as error:
        reason = error.args[0] if error.args else "faulty"
        raise ValueError(reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)) from None


@cache
def own(expression: str) -> Any:
    """Compile one of our own expressions once; capitals and small letters are the same."""
    return compiled(expression, most_bytes=8 * 1024 * 1024, case_sensitive=False)


def together(expressions: Iterable[str], *, most_bytes: int) -> Any:
    """Make one automaton of many expressions without case: its `Match` gives the numbers of those that are found."""
    import re2  # noqa: PLC0415  as above

    found = re2.Set.SearchSet(_options(re2, most_bytes, case_sensitive=False))
    for expression in expressions:
        found.Add(expression)
    found.Compile()
    return found


def _options(re2: Any, most_bytes: int, *, case_sensitive: bool) -> Any:
    options = re2.Options()
    options.max_mem = most_bytes
    options.case_sensitive = case_sensitive
    options.log_errors = False
    return options
