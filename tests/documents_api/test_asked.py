from typing import Any

import anyio
import pytest
from pydantic import Field
from starlette.requests import Request

from llmgateway.caller import ANYONE, Caller
from llmgateway.documents_api.asked import (
    Body,
    body_asked,
    checked_fields,
    digest_of,
    idempotency_asked,
    in_time,
    large_body_asked,
    one_of,
    organization_asked,
    page_asked,
    sees_everything,
    short,
    text_in_query,
    wanted_of,
)
from llmgateway.errors import ConflictError, InvalidJSONError, NotFoundError, UnprocessableError
from llmgateway.exchange import Exchange
from llmgateway.storage.admin.outcomes import TakenError
from llmgateway.storage.jobs.rows import Wanted
from tests.jobs.shop import key

ADMIN = Caller(kind="admin", key_id="admin")


class Inner(Body):
    """A part."""

    count: int = Field(ge=1, default=1)


class Thing(Body):
    """Something asked for."""

    name: str
    parts: tuple[Inner, ...] = ()


def request(
    body: bytes = b"",
    *,
    caller: Caller = ANYONE,
    organization: str | None = None,
    query: str = "",
    headers: dict[str, str] | None = None,
) -> Request:
    exchange = Exchange(caller=caller, organization=organization or caller.organization, path="/api/v1/things")
    given = [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()]
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/api/v1/things",
        "query_string": query.encode(),
        "headers": given,
        "exchange": exchange,
        "body": body,
    }
    return Request(scope)


def errors(caught: pytest.ExceptionInfo[UnprocessableError]) -> Any:
    assert caught.value.details is not None
    return caught.value.details["errors"]


def test_a_body_is_what_it_should_be() -> None:
    thing = body_asked(request(b'{"name": "x", "parts": [{"count": 2}]}'), Thing)

    assert (thing.name, thing.parts[0].count, thing.named) == ("x", 2, frozenset({"name", "parts"}))


def test_every_fault_of_a_body_is_named_with_its_place() -> None:
    with pytest.raises(UnprocessableError, match="`name`: input should be a valid string") as caught:
        body_asked(request(b'{"name": 5, "parts": [{"count": 0}, {"cuont": 1}]}'), Thing)

    found = errors(caught)
    assert [one["loc"] for one in found] == [
        ["body", "name"],
        ["body", "parts", 0, "count"],
        ["body", "parts", 1, "cuont"],
    ]
    assert "the nearest is `count`" in found[2]["msg"]


def test_an_empty_body_is_an_empty_object() -> None:
    with pytest.raises(UnprocessableError, match="`name` is missing"):
        body_asked(request(), Thing)


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
async def test_what_is_no_json_object_is_told_apart(body: bytes) -> None:
    with pytest.raises(InvalidJSONError):
        await large_body_asked(request(body), Thing)


async def test_a_large_body_is_read_apart() -> None:
    name = "x" * 300_000

    assert (await large_body_asked(request(b'{"name": "%s"}' % name.encode()), Thing)).name == name


def test_numbers_of_a_form_are_read() -> None:
    assert checked_fields({"count": "3"}, Inner).count == 3
    with pytest.raises(UnprocessableError):
        checked_fields({"count": "0"}, Inner)


def test_a_page_is_asked_for_by_its_number() -> None:
    assert page_asked(request()) == (1, 50)
    assert page_asked(request(query="page=3&page_size=100&kind=x"), ("kind",)) == (3, 100)


@pytest.mark.parametrize("query", ["page=0", "page=-1", "page=1.5", "page=%C2%B2", "page_size=101", f"page={'9' * 99}"])
def test_a_page_that_is_none_is_refused(query: str) -> None:
    with pytest.raises(UnprocessableError, match="whole number from 1 to"):
        page_asked(request(query=query))


def test_a_parameter_that_nobody_reads_is_refused() -> None:
    with pytest.raises(UnprocessableError, match="there are: kind, page, page_size") as caught:
        page_asked(request(query="pgae=1"), ("kind",))

    assert errors(caught)[0]["loc"] == ["query", "pgae"]


def test_words_and_texts_of_a_query() -> None:
    assert one_of(request(), "kind", ("a", "b"), "b") == "b"
    assert one_of(request(query="kind=a"), "kind", ("a", "b")) == "a"
    assert (text_in_query(request(query="x=y"), "x"), text_in_query(request(), "x")) == ("y", None)
    with pytest.raises(UnprocessableError, match="one of a, b"):
        one_of(request(query="kind=c"), "kind", ("a", "b"))
    with pytest.raises(UnprocessableError, match="printable"):
        text_in_query(request(query="x=%00"), "x")
    assert len(short("x" * 1000)) < 200


@pytest.mark.parametrize(
    ("caller", "named", "expected"),
    [
        (ANYONE, "acme", "acme"),
        (ADMIN, "acme", "acme"),
        (key("acme"), "acme", "acme"),
        (key("acme"), None, "acme"),
        (ANYONE, None, None),
    ],
)
def test_an_organization_is_believed_of_whom_it_may_be(caller: Caller, named: str | None, expected: str | None) -> None:
    assert organization_asked(request(caller=caller), named) == expected


@pytest.mark.parametrize(("caller", "named"), [(key("acme"), "other"), (key(), "acme"), (key(), "a b")])
def test_another_organization_looks_like_none(caller: Caller, named: str) -> None:
    with pytest.raises(NotFoundError, match="is known here, or it is not yours"):
        organization_asked(request(caller=caller), named)


def test_an_organization_is_named_in_one_way() -> None:
    with pytest.raises(UnprocessableError, match="1 to 128 of"):
        organization_asked(request(), "a b")
    with pytest.raises(UnprocessableError, match="than X-Organization-ID does"):
        organization_asked(request(organization="acme"), "other")
    with pytest.raises(UnprocessableError, match="X-Organization-ID"):
        organization_asked(request(headers={"X-Organization-ID": "a b"}))


@pytest.mark.parametrize(
    ("caller", "organization", "expected"),
    [
        (ANYONE, None, Wanted()),
        (ANYONE, "acme", Wanted(organization_id="acme")),
        (ADMIN, None, Wanted(everyone=True)),
        (ADMIN, "acme", Wanted(organization_id="acme")),
        (key("acme"), None, Wanted(organization_id="acme")),
        (key(), None, Wanted(key_id="key_1")),
        (Caller(kind="shared", key_id="gateway_1"), None, Wanted(key_id="gateway_1")),
    ],
)
def test_pitfall_109_each_is_shown_what_is_the_own(caller: Caller, organization: str | None, expected: Wanted) -> None:
    asked = request(caller=caller, organization=organization)

    assert wanted_of(asked) == expected
    assert sees_everything(asked, expected.organization_id) == expected.everyone


def test_an_idempotency_key_holds_for_a_path() -> None:
    assert idempotency_asked(request()) is None
    assert idempotency_asked(request(headers={"Idempotency-Key": "a b"})) == "/api/v1/things a b"
    for wrong in ("", "x" * 256, "a\tb"):
        with pytest.raises(UnprocessableError, match="Idempotency-Key"):
            idempotency_asked(request(headers={"Idempotency-Key": wrong}))


async def test_a_digest_tells_bodies_apart_whatever_their_size() -> None:
    assert await digest_of(b"a") != await digest_of(b"b")
    assert await digest_of(b"a" * 300_000) == await digest_of(b"a" * 300_000) != await digest_of(b"a" * 300_001)


async def test_a_name_that_is_taken_is_a_conflict() -> None:
    async def taken() -> None:
        await anyio.lowlevel.checkpoint()
        raise TakenError

    with pytest.raises(ConflictError) as caught:
        await in_time(taken)

    assert caught.value.code == "already_exists"
