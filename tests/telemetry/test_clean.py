"""Keys in the fields of log lines: none is left, and what is no key is as it was."""

from typing import Any

import pytest
from typing_extensions import override

from llmgateway.telemetry.clean import Clean
from llmgateway.wire.secrets import HIDDEN

SECRET = "plain-word-of-mistral"  # noqa: S105  made up
SHAPED = "sk-proj-abcdef0123456789"


def cleaned(clean: Clean, **fields: Any) -> dict[str, Any]:
    return dict(clean(None, "info", {"event": "x", **fields}))


class Told:
    @override
    def __str__(self) -> str:
        return f"it is {SHAPED}"


@pytest.mark.parametrize(
    ("value", "left"),
    [
        (SHAPED, HIDDEN),
        (f"a\n{SHAPED}\nb", f"a\n{HIDDEN}\nb"),
        (SECRET, HIDDEN),
        (f"<{SECRET}>", f"<{HIDDEN}>"),
        ([SHAPED, 1, None], [HIDDEN, 1, None]),
        ({"inner": {"deep": SHAPED}, "n": 1.5}, {"inner": {"deep": HIDDEN}, "n": 1.5}),
        ({"api_key": "short"}, {"api_key": HIDDEN}),
        (SHAPED.encode(), HIDDEN),
        (ValueError(SECRET), HIDDEN),
        (Told(), f"it is {HIDDEN}"),
    ],
)
def test_no_key_is_left_in_any_kind_of_value(value: object, left: object) -> None:
    clean = Clean([SECRET])

    for _ in range(2):
        assert cleaned(clean, status=200, field=value) == {"event": "x", "status": 200, "field": left}


@pytest.mark.parametrize("name", ["api_key", "authorization", "password"])
def test_a_field_that_names_a_key_is_hidden_whatever_it_holds(name: str) -> None:
    clean = Clean()

    for _ in range(2):
        assert cleaned(clean, **{name: "abc"})[name] == HIDDEN
    assert cleaned(clean, **{name: None})[name] is None


def test_what_is_clean_stays_the_same() -> None:
    clean = Clean([SECRET])
    event: dict[str, Any] = {
        "event": "x",
        "request_id": "req_1",
        "n": 1,
        "f": 1.5,
        "b": True,
        "none": None,
        "s": "text",
    }

    clean(None, "info", event)

    assert clean(None, "info", event) is event


def test_a_secret_that_comes_later_is_hidden_even_where_it_was_clean_before() -> None:
    clean = Clean()
    assert cleaned(clean, text=SECRET)["text"] == SECRET

    clean.hide([SECRET])

    assert cleaned(clean, text=SECRET)["text"] == HIDDEN


def test_a_word_is_no_secret() -> None:
    clean = Clean(["ollama", "none", ""])

    assert cleaned(clean, provider="ollama", text="none")["provider"] == "ollama"


def test_what_it_remembers_is_bounded() -> None:
    clean = Clean()

    for number in range(10_000):
        cleaned(clean, **{"text": f"text {number}", f"field_{number}": "x" * 1000})

    assert len(clean._known) <= 4096  # noqa: SLF001  its memory is what is asked about
    assert len(clean._names) <= 4096  # noqa: SLF001  likewise


def test_it_knows_what_it_found_clean_until_another_secret_comes() -> None:
    clean = Clean()
    assert not clean.knows(["/v1/models"])

    clean(None, "", {"path": "/v1/models", "model": "sk-proj-0123456789abcdefghijklmnopqrstuv"})
    clean(None, "", {"path": "/v1/models"})
    assert clean.knows(["/v1/models", None])
    assert not clean.knows(["/v1/models", "sk-proj-0123456789abcdefghijklmnopqrstuv"])

    clean.hide(["models-are-secret"])
    assert not clean.knows(["/v1/models"])
