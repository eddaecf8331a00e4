import json
from typing import Any

import pytest
from starlette.requests import Request

from llmgateway.api.admin.asked import (
    MAX_BYTES,
    Body,
    BudgetBody,
    Line,
    budget_asked,
    checked,
    deed,
    limits_asked,
    page_asked,
    text_asked,
    text_in_query,
)
from llmgateway.caller import Budget
from llmgateway.catalog.model import Limits
from llmgateway.catalog.schema import Tier
from llmgateway.errors import (
    ClientGoneError,
    GatewayError,
    InvalidJSONError,
    InvalidRequestError,
    PermissionDeniedError,
)
from llmgateway.keys.modes import ADMIN
from tests.asgi import scope_of


class Thing(Body):
    name: Line
    size: int = 0


def asked(query: bytes = b"", *pieces: dict[str, Any]) -> Request:
    messages = list(pieces)

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    scope = scope_of(path="/admin/things", query_string=query)
    scope["exchange"].caller = ADMIN
    return Request(scope, receive)


@pytest.mark.parametrize("content", [b"[]", b"3", b"null", b'"x"'])
def test_a_body_is_a_json_object(content: bytes) -> None:
    with pytest.raises(InvalidJSONError, match="must be a JSON object"):
        checked(content, Thing)


@pytest.mark.parametrize("content", [b"{", b"", b"\xff", b"{'a': 1}"])
def test_what_is_no_json_is_told(content: bytes) -> None:
    with pytest.raises(InvalidJSONError, match="The body is not JSON"):
        checked(content, Thing)


def test_every_fault_is_told_and_the_first_is_the_message() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        checked(b'{"nmae": "x", "size": "3"}', Thing)

    error = caught.value
    assert error.details is not None
    assert len(json.loads(json.dumps(error.details))["faults"]) == 3
    assert error.message == f"{error.details['faults'][0]}."  # type: ignore[index]


def test_a_fault_never_repeats_a_value() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        checked(b'{"name": "ok", "size": "sk-canary"}', Thing)

    assert "canary" not in caught.value.message


def test_what_was_named_is_known_from_what_was_left_out() -> None:
    assert checked(b'{"name": "x"}', Thing).named == {"name"}
    assert checked(b'{"name": "x", "size": 0}', Thing).named == {"name", "size"}


async def test_a_body_comes_in_pieces_and_is_bounded() -> None:
    whole = asked(
        b"", {"type": "http.request", "body": b"ab", "more_body": True}, {"type": "http.request", "body": b"c"}
    )
    assert await text_asked(whole) == b"abc"
    piece = {"type": "http.request", "body": b"x" * (MAX_BYTES // 2), "more_body": True}
    with pytest.raises(GatewayError, match="larger than"):
        await text_asked(asked(b"", piece, piece, piece))
    with pytest.raises(ClientGoneError):
        await text_asked(asked(b"", piece, {"type": "http.disconnect"}))


def test_pages_begin_with_one() -> None:
    assert page_asked(asked()) == (1, 50)
    assert page_asked(asked(b"page=3&page_size=7")) == (3, 7)
    for query in (b"page=0", b"page=x", b"page_size=101", b"page=-1", b"page=9999999999", b"page=%D9%A3", b"pag=1"):
        with pytest.raises(InvalidRequestError):
            page_asked(asked(query))


def test_a_parameter_is_short_and_printable() -> None:
    assert text_in_query(asked(b"actor=cli"), "actor") == "cli"
    assert text_in_query(asked(b"actor="), "actor") is None
    for query in (b"actor=%00", b"actor=" + b"x" * 300):
        with pytest.raises(InvalidRequestError):
            text_in_query(asked(query), "actor")


def test_limits_that_say_nothing_are_none() -> None:
    assert limits_asked(None) is limits_asked(Tier()) is None
    assert limits_asked(Tier(burst=3)) == Limits(burst=3)


def test_a_budgets_alert_comes_before_its_end() -> None:
    assert budget_asked(BudgetBody(usd=5, soft_usd=5)) == Budget(5, "month", 5)
    with pytest.raises(InvalidRequestError, match="above"):
        budget_asked(BudgetBody(usd=5, soft_usd=6))


def test_a_deed_is_an_administrators() -> None:
    request = asked()
    assert deed(request, "key.create", "key_1", details={"name": "x"}).actor == "admin"

    scope = scope_of()
    with pytest.raises(PermissionDeniedError):
        deed(Request(scope), "key.create", "key_1")
