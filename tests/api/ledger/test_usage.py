import csv
import io
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx2
import jsonschema  # type: ignore[import-untyped]  # it carries no types
import pytest

from llmgateway.api.ledger.asking import EVERYTHING, Reach
from llmgateway.api.ledger.usage import routes
from llmgateway.api.openapi import openapi_document
from llmgateway.keys.directory import Directory
from llmgateway.keys.hashing import hash_of
from llmgateway.keys.modes import Identify
from llmgateway.storage.queries import MOST_GROUPS, StorageAwayError, TooManyGroupsError, UsageTotals
from tests.api.ledger.books import FOREVER, Books, asking, flushed
from tests.keys.people import People

NONE: Mapping[str, str] = {}
NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
MONTH = datetime(2026, 11, 1, tzinfo=UTC)
DOCUMENT = openapi_document("1.2.3")
REPORT = {**DOCUMENT["components"]["schemas"]["UsageReport"], "components": DOCUMENT["components"]}


def totals(cost_usd: float | None = 0.25, requests: int = 2, **group: str | None) -> UsageTotals:
    return UsageTotals(group, requests, 1, 30, 12, 4, 3, cost_usd, 0 if cost_usd is not None else 1, 1)


def ask(
    books: Books, query: Mapping[str, str], headers: Mapping[str, str] = NONE, limit_s: float = 1.0
) -> httpx2.Response:
    client = asking(routes(books.usage, flushed, limit_s=limit_s, now=lambda: NOW))
    return client.get("/v1/usage", params=dict(query), headers=dict(headers))


def asked(query: Mapping[str, str]) -> tuple[Any, ...]:
    books = Books([])
    answer = ask(books, query)
    assert answer.status_code == 200, answer.text
    return books.asked[0]


def refused(query: Mapping[str, str], headers: Mapping[str, str] = NONE) -> tuple[int, str, str]:
    books = Books([])
    answer = ask(books, query, headers)
    assert books.asked == []
    assert len(answer.text) < 1000
    return answer.status_code, answer.json()["error"]["param"], answer.json()["error"]["message"]


def test_this_month_is_summed_up_when_nothing_else_is_asked() -> None:
    books = Books([totals()])
    answer = ask(books, {})
    told = answer.json()

    assert books.asked == [(MONTH, NOW, (), EVERYTHING)]
    assert (told["from"], told["to"]) == ("2026-11-01T00:00:00.000Z", "2026-11-21T09:30:00.000Z")
    assert told["group_by"] == []
    assert told["data"] == [told["total"]]
    assert answer.headers["cache-control"] == "no-store"
    jsonschema.Draft202012Validator(REPORT).validate(told)


def test_groups_have_their_names_and_the_total_is_their_sum() -> None:
    told = ask(
        Books([totals(model="a", key=None), totals(0.5, 3, model="b", key="k")]), {"group_by": "model,key"}
    ).json()

    assert [(row["model"], row["key"], row["requests"]) for row in told["data"]] == [("a", None, 2), ("b", "k", 3)]
    assert told["total"] == {
        "requests": 5,
        "errors": 2,
        "prompt_tokens": 60,
        "completion_tokens": 24,
        "cached_tokens": 8,
        "reasoning_tokens": 6,
        "total_tokens": 84,
        "cost_usd": 0.75,
        "unpriced_requests": 0,
        "estimated_requests": 2,
    }
    jsonschema.Draft202012Validator(REPORT).validate(told)


def test_pitfall_037_a_cost_that_nobody_knows_is_null_and_counted() -> None:
    unknown = ask(Books([totals(None, model="a")]), {"group_by": "model"}).json()
    partly = ask(Books([totals(None, model="a"), totals(0.1, model="b")]), {"group_by": "model"}).json()
    nothing = ask(Books([]), {}).json()

    assert (unknown["total"]["cost_usd"], unknown["total"]["unpriced_requests"]) == (None, 1)
    assert (partly["total"]["cost_usd"], partly["total"]["unpriced_requests"]) == (0.1, 1)
    assert (nothing["total"]["cost_usd"], nothing["total"]["requests"]) == (None, 0)


def test_sums_of_money_do_not_drift() -> None:
    told = ask(Books([totals(0.1), totals(0.2)]), {}).json()

    assert told["total"]["cost_usd"] == 0.3


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-10-01", datetime(2026, 10, 1, tzinfo=UTC)),
        ("2026-10-01T12:00:00Z", datetime(2026, 10, 1, 12, tzinfo=UTC)),
        ("2026-10-01T12:00:00+02:00", datetime(2026, 10, 1, 10, tzinfo=UTC)),
        ("2026-10-01T12:00:00 02:00", datetime(2026, 10, 1, 10, tzinfo=UTC)),  # a plus sign that was not escaped
        ("2026-10-01T12:00:00.5-0200", datetime(2026, 10, 1, 14, 0, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_days_are_in_utc_and_instants_have_an_offset(text: str, instant: datetime) -> None:
    assert asked({"from": text})[:2] == (instant, NOW)
    assert asked({"from": "2026-09-01", "to": text})[:2] == (datetime(2026, 9, 1, tzinfo=UTC), instant)


@pytest.mark.parametrize(
    "text",
    [
        *("yesterday", "2026-10-01T12:00:00", "2026-13-01", "1795253400", "'; DROP TABLE ledger; --", "9" * 50_000),
        *("0001-01-01T00:00:00+14:00", "2026-10-01 12:00", "\0", "\uff12\uff10\uff12\uff16-10-01", "NaN", "-1"),
    ],
)
@pytest.mark.parametrize("name", ["from", "to"])
def test_what_is_no_moment_is_refused_with_what_would_be_one(name: str, text: str) -> None:
    status, param, message = refused({name: text})

    assert (status, param) == (400, name)
    assert "2026-11-01T12:00:00Z" in message


def test_a_time_has_a_beginning_before_its_end_and_is_a_year_at_most() -> None:
    assert refused({"from": "2026-10-02", "to": "2026-10-01"})[:2] == (400, "from")
    assert refused({"from": "2026-10-01", "to": "2026-10-01"})[:2] == (400, "from")
    assert refused({"from": "2026-11-22"})[:2] == (400, "from")
    assert refused({"from": "2025-11-20"})[:2] == (400, "from")
    assert asked({"from": "2025-11-21"})


def test_groups_may_be_named_twice_and_only_those_there_are() -> None:
    assert asked({"group_by": " model , day,,model"})[2] == ("model", "day")
    assert asked({"group_by": ""})[2] == ()
    status, param, message = refused({"group_by": "model,1=1"})
    assert (status, param) == (400, "group_by")
    assert "`1=1`" in message
    assert "operation" in message


def test_a_misspelt_parameter_does_not_answer_another_question() -> None:
    status, param, message = refused({"organisation_id": "acme"})

    assert (status, param) == (400, "organisation_id")
    assert "organization_id" in message
    assert refused({"x" * 5000: "1"})[0] == 400


def test_an_organization_sees_its_own_and_whoever_names_none_sees_all() -> None:
    books = Books([])
    ask(books, {}, {"X-Organization-ID": "acme"})
    ask(books, {"organization_id": "acme"}, {"X-Organization-ID": "acme"})
    ask(books, {"organization_id": "acme"})
    ask(books, {})

    assert [question[3] for question in books.asked] == [Reach("acme")] * 3 + [EVERYTHING]
    assert refused({"organization_id": "acme"}, {"X-Organization-ID": "evil"})[0] == 404
    assert refused({}, {"X-Organization-ID": "a b"})[:2] == (400, "X-Organization-ID")
    assert refused({"organization_id": "' OR ''='"})[:2] == (400, "organization_id")


def test_a_key_sees_its_organizations_usage_or_its_own_and_names_no_other() -> None:
    people, books = People(), Books([])
    acme, alone = people.add(organization_id="acme"), people.add()
    identify = Identify("hybrid", directory=Directory(people), gateway_keys=["shared-key"], admin_key="admin-key")
    client = asking(routes(books.usage, flushed, now=lambda: NOW), identify)

    def status(key: str, query: str = "", **headers: str) -> int:
        return client.get(f"/v1/usage{query}", headers={"X-API-Key": key, **headers}).status_code

    for key in (acme, alone, "shared-key", "admin-key"):
        assert status(key) == 200
    assert status("admin-key", "", **{"X-Organization-ID": "evil"}) == 200
    assert [question[3] for question in books.asked] == [
        Reach("acme"),
        Reach(None, people.row(alone).id),
        Reach(None, f"gateway_{hash_of('shared-key')[:8]}"),
        EVERYTHING,
        Reach("evil"),
    ]
    assert status(acme, "?organization_id=acme") == 200
    asked = len(books.asked)
    for key, own in ((acme, "evil"), (alone, "acme"), ("shared-key", "acme")):
        assert status(key, f"?organization_id={own}") == 404
        assert status(key, "", **{"X-Organization-ID": own}) == 404
    assert len(books.asked) == asked


def test_what_the_caller_just_did_is_shipped_first() -> None:
    books = Books([])
    order: list[Any] = []

    async def flush(within_s: float) -> bool:
        order.append((within_s, list(books.asked)))
        return False

    asking(routes(books.usage, flush, now=lambda: NOW)).get("/v1/usage")

    assert order == [(1.0, [])]
    assert len(books.asked) == 1


@pytest.mark.parametrize("broken", [StorageAwayError("postgres.internal:5432 refuses"), FOREVER])
def test_without_the_database_it_says_when_to_come_back(broken: object) -> None:
    answer = ask(Books(broken), {}, limit_s=0.1)

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert answer.headers["retry-after"] == "1"
    assert "internal" not in answer.text


def test_too_many_groups_are_refused_with_what_helps() -> None:
    answer = ask(Books(TooManyGroupsError("more")), {"group_by": "user,day"})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "group_by")
    assert "shorter time" in answer.json()["error"]["message"]


def test_as_many_groups_as_there_may_be_are_all_there() -> None:
    told = ask(Books([totals(user=str(number)) for number in range(MOST_GROUPS)]), {"group_by": "user"}).json()

    assert len(told["data"]) == MOST_GROUPS
    assert told["total"]["requests"] == 2 * MOST_GROUPS


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/csv", "text/csv"),
        ("text/csv; charset=utf-8, application/json", "text/csv"),
        ("application/json, text/csv", "application/json"),
        ("*/*", "application/json"),
        ("", "application/json"),
    ],
)
def test_a_table_comes_to_those_who_ask_for_one(accept: str, kind: str) -> None:
    answer = ask(Books([totals(model="a")]), {"group_by": "model"}, {"Accept": accept})

    assert answer.headers["content-type"].split(";")[0] == kind


def test_the_table_has_a_line_for_each_group() -> None:
    answer = ask(Books([totals(model='a "b", c', key=None)]), {"group_by": "model,key"}, {"Accept": "text/csv"})
    head, *rows = csv.reader(io.StringIO(answer.text))

    assert head[:3] == ["model", "key", "requests"]
    assert rows == [['a "b", c', "", "2", "1", "30", "12", "4", "3", "42", "0.25", "0", "1"]]
    assert "usage.csv" in answer.headers["content-disposition"]


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_spreadsheet_calculates_nothing_that_a_client_wrote(name: str) -> None:
    answer = ask(Books([totals(user=name)]), {"group_by": "user"}, {"Accept": "text/csv"})

    assert next(iter(list(csv.reader(io.StringIO(answer.text, newline="")))[1])) == f"'{name}"
