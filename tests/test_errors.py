import inspect
import re
from pathlib import Path

import pytest

from llmgateway import errors
from llmgateway.errors import GatewayError, OverloadedError, ProviderTimeoutError, UpstreamError, UpstreamRejectedError

SRC = Path(inspect.getfile(errors)).parent
CLASSES = {
    name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, GatewayError)
}
_LINE = re.compile(r"^ {4}(?P<indent>[│├└─ ]*)(?P<name>\w+Error)(?: +(?P<status>\dxx|\d{3}))?", re.MULTILINE)


def drawn() -> dict[str, tuple[str | None, str | None]]:
    """Name of each class in the docstring's tree, with the name above it and its status."""
    tree: dict[str, tuple[str | None, str | None]] = {}
    above: list[str] = []
    for match in _LINE.finditer(errors.__doc__ or ""):
        depth = len(match["indent"]) // 4
        above[depth:] = [match["name"]]
        tree[match["name"]] = (above[depth - 1] if depth else None, match["status"])
    return tree


def routing_sources() -> str:
    folders = ("routing", "upstream", "middleware", "api")
    return "\n".join(path.read_text() for folder in folders for path in (SRC / folder).rglob("*.py"))


def test_the_tree_that_is_drawn_is_the_tree_that_is() -> None:
    real = {name: None if kind is GatewayError else kind.__bases__[0].__name__ for name, kind in CLASSES.items()}

    assert {name: parent for name, (parent, _) in drawn().items()} == real


def test_the_statuses_that_are_drawn_are_the_statuses_that_are() -> None:
    told = {name: status for name, (_, status) in drawn().items() if status is not None}

    assert told.pop("UpstreamRejectedError") == "4xx", "whatever the provider sent"
    assert told == {name: str(CLASSES[name].status) for name in told}
    assert set(CLASSES) - set(told) == {"GatewayError", "UpstreamRejectedError"}


def test_all_of_them_are_exported() -> None:
    assert sorted(errors.__all__) == sorted(CLASSES)


def test_every_class_has_a_status_and_code_of_its_own_or_is_told_apart_elsewhere() -> None:
    seen: dict[tuple[int, str], list[str]] = {}
    for name, kind in CLASSES.items():
        seen.setdefault((kind.status, kind.code), []).append(name)
    alike = [name for names in seen.values() if len(names) > 1 for name in names]
    sources = routing_sources()

    assert [name for name in alike if not re.search(rf"\b{name}\b", sources)] == []


def test_every_class_is_raised_or_caught_somewhere() -> None:
    sources = "\n".join(
        path.read_text() for path in SRC.rglob("*.py") if path.name != "errors.py" or path.parent != SRC
    )

    assert [name for name in CLASSES if not re.search(rf"\b{name}\b", sources)] == []


@pytest.mark.parametrize("kind", CLASSES.values(), ids=lambda kind: kind.__name__)
def test_codes_and_types_are_words_for_programs(kind: type[GatewayError]) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.code)
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", kind.type)
    assert 400 <= kind.status < 600
    assert (kind.type == "invalid_request_error") == (400 <= kind.status < 499 and kind.status != 429)


def test_an_error_says_what_it_was_made_with() -> None:
    error = GatewayError("no", param="a.b", code="mine", details={"near": ["x"]}, retry_after_s=1.5)

    assert (str(error), error.message, error.param, error.code) == ("no", "no", "a.b", "mine")
    assert (error.details, error.retry_after_s) == ({"near": ["x"]}, 1.5)
    assert GatewayError("other").code == "internal_error", "a code of one error is not its class's"


def test_a_rejection_has_the_providers_status() -> None:
    error = UpstreamRejectedError("no", upstream_status=422, param="x")

    assert (error.status, error.upstream_status, error.code, error.param) == (422, 422, "invalid_value", "x")
    assert not error.may_retry
    assert UpstreamRejectedError.status == 400


def test_an_upstream_is_asked_again_only_when_the_error_says_so() -> None:
    assert not UpstreamError("broken").may_retry
    assert UpstreamError("lost", may_retry=True).may_retry


def test_clients_are_told_to_come_again_only_where_it_is_ours_to_say() -> None:
    assert OverloadedError("full").should_retry is True
    assert ProviderTimeoutError("late").should_retry is None
