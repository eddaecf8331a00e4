import asyncio
import threading
from datetime import UTC, datetime

import anyio
import msgspec
import pytest
from starlette.requests import Request

from llmgateway.api.ledger.asking import (
    EVERYTHING,
    Reach,
    answer_in_time,
    instant_asked,
    own_reach_of,
    reach_of,
    rendered,
    short,
)
from llmgateway.caller import ANYONE, Caller
from llmgateway.errors import InvalidRequestError, LedgerAwayError
from llmgateway.keys.modes import ADMIN
from llmgateway.storage.queries import StorageAwayError
from tests.api.ledger.books import entry_of_a_call
from tests.asgi import scope_of

CLIENT = Caller(kind="client", key_id="key_1", organization="acme")
ALONE = Caller(kind="client", key_id="key_2")
SHARED = Caller(kind="shared", key_id="gateway_12345678")


def asked_by(caller: Caller, organization: str | None = None, **headers: str) -> Request:
    request = Request(scope_of(headers=headers))
    request.scope["exchange"].caller, request.scope["exchange"].organization = caller, organization
    return request


@pytest.mark.parametrize(
    ("caller", "organization", "usage", "requests"),
    [
        (ANYONE, None, EVERYTHING, EVERYTHING),
        (ANYONE, "acme", Reach("acme"), Reach("acme")),
        (ADMIN, None, EVERYTHING, EVERYTHING),
        (ADMIN, "acme", Reach("acme"), Reach("acme")),
        (CLIENT, "acme", Reach("acme"), Reach("acme", "key_1")),
        (ALONE, None, Reach(None, "key_2"), Reach(None, "key_2")),
        (SHARED, None, Reach(None, "gateway_12345678"), Reach(None, "gateway_12345678")),
    ],
)
def test_everybody_sees_what_is_theirs(caller: Caller, organization: str | None, usage: Reach, requests: Reach) -> None:
    request = asked_by(caller, organization)

    assert (reach_of(request), own_reach_of(request)) == (usage, requests)


def test_nobody_but_the_administrator_ever_sees_everything_by_mistake() -> None:
    for kind in ("shared", "client", "provider"):
        with pytest.raises(TypeError):
            reach_of(asked_by(Caller(kind=kind)))
    with pytest.raises(InvalidRequestError):
        reach_of(asked_by(ANYONE, None, **{"x-organization-id": "a b"}))


def test_a_reach_covers_what_has_its_organization_and_its_key() -> None:
    entry = entry_of_a_call(organization_id="acme", key_id="key_1")

    own = (EVERYTHING, Reach("acme"), Reach("acme", "key_1"), Reach(None, "key_1"))

    assert all(reach.covers(entry) for reach in own)
    assert not any(reach.covers(entry) for reach in (Reach("evil"), Reach("acme", "key_2"), Reach("evil", "key_1")))
    assert not Reach("acme").covers(entry_of_a_call())


async def test_an_answer_in_time_is_given_on() -> None:
    async def question() -> int:
        return 7

    assert await answer_in_time(question, 1.0) == 7


async def test_what_is_wrong_with_the_database_is_told_without_its_address() -> None:
    async def question() -> int:
        raise StorageAwayError("postgres.internal:5432 refuses")

    with pytest.raises(LedgerAwayError) as away:
        await answer_in_time(question, 1.0)

    assert (away.value.status, away.value.should_retry) == (503, True)
    assert "internal" not in away.value.message


async def test_a_bug_in_a_question_stays_a_bug() -> None:
    async def question() -> int:
        raise KeyError("group")

    with pytest.raises(KeyError):
        await answer_in_time(question, 1.0)


async def test_pitfall_070_wide_questions_take_turns_and_the_wait_is_part_of_their_time() -> None:
    turns, answered, running = asyncio.Semaphore(2), asyncio.Event(), 0
    most, refused = 0, 0

    async def question() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await answered.wait()
        running -= 1

    async def ask(limit_s: float) -> None:
        nonlocal refused
        try:
            await answer_in_time(question, limit_s, turns)
        except LedgerAwayError:
            refused += 1
        if refused == 3:
            answered.set()

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for limit_s in (5.0, 5.0, 0.05, 0.05, 0.05):
                group.start_soon(ask, limit_s)

    assert (most, running, refused) == (2, 0, 3)
    assert not turns.locked()


@pytest.mark.parametrize(("rows", "beside"), [(3, False), (5000, True)])
async def test_pitfall_070_many_rows_are_rendered_beside_the_event_loop(rows: int, beside: bool) -> None:
    threads: list[int] = []

    def render() -> bytes:
        threads.append(threading.get_ident())
        return msgspec.json.encode([])

    answer = await rendered(render, rows)

    assert answer.body == b"[]"
    assert (threads != [threading.get_ident()]) is beside


def test_what_a_client_wrote_is_quoted_and_never_long() -> None:
    assert short("abc") == "`abc`"
    assert short("a" * 100) == f"`{'a' * 100}`"
    assert len(short("a" * 1_000_000)) == 103


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T12:00:00Z", datetime(2026, 11, 1, 12, tzinfo=UTC)),
        ("2026-11-01T12:00:00+01:00", datetime(2026, 11, 1, 11, tzinfo=UTC)),  # its plus sign is not escaped
        ("2026-11-01 12:00:00Z", datetime(2026, 11, 1, 12, tzinfo=UTC)),
        ("2026-11-01 12:00:00+01:00", datetime(2026, 11, 1, 11, tzinfo=UTC)),
        ("", None),
    ],
)
def test_a_moment_is_a_day_or_has_its_offset(text: str, at: datetime | None) -> None:
    request = Request(scope_of(query_string=f"from={text}".encode()))

    assert (instant_asked(request, "from"), instant_asked(request, "to")) == (at, None)
