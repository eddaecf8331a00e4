from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from llmgateway.storage.admin.chain import NOTHING, Check, at_us, cleaned, link, moment_of
from llmgateway.storage.admin.outcomes import Verdict
from llmgateway.storage.admin.rows import AuditRow
from tests.storage.admin.given import NOW, deed


def chain(count: int) -> list[AuditRow]:
    rows: list[AuditRow] = []
    for seq in range(1, count + 1):
        rows.append(link(seq, NOW, deed(f"key_{seq}"), rows[-1].hash if rows else NOTHING))
    return rows


def verdict_on(rows: list[AuditRow], written: list[AuditRow]) -> Verdict:
    check = Check(written[-1].seq, written[-1].hash)
    return check.follow(rows) or check.end()


@given(st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  hypothesis adds it
def test_a_moment_is_kept_to_the_microsecond(moment: datetime) -> None:
    assert moment_of(at_us(moment)) == moment


def test_the_hash_is_over_everything_and_the_hash_before() -> None:
    first = link(1, NOW, deed(details={"b": 1, "a": [2.5, None]}), NOTHING)

    assert first == link(1, NOW, deed(details={"a": [2.5, None], "b": 1}), NOTHING)
    others = [
        link(2, NOW, deed(details=first.details), NOTHING),
        link(1, NOW + timedelta(microseconds=1), deed(details=first.details), NOTHING),
        link(1, NOW, deed("key_2", details=first.details), NOTHING),
        link(1, NOW, deed(details=first.details, actor="x"), NOTHING),
        link(1, NOW, deed(details=first.details, action="x"), NOTHING),
        link(1, NOW, deed(details=first.details, organization_id="x"), NOTHING),
        link(1, NOW, deed(), NOTHING),
        link(1, NOW, deed(details=first.details), first.hash),
    ]
    assert len({first.hash, *(row.hash for row in others)}) == 9


def test_a_chain_that_is_whole_is_right() -> None:
    rows = chain(5)

    assert verdict_on(rows, rows) == Verdict(True, 5)
    assert verdict_on([*rows, link(6, NOW, deed(), rows[-1].hash)], rows) == Verdict(True, 6)
    assert Check(0, NOTHING).end() == Verdict(True, 0)


def test_whatever_is_done_to_one_row_is_found_at_that_row() -> None:
    rows = chain(5)
    third = rows[2]

    changed = structs.replace(third, actor="nobody")
    anew = link(3, third.at, deed("other"), third.previous)
    elsewhere = link(3, third.at, deed("other"), "f" * 64)
    shorter = chain(4)[:3]
    last_anew = [*rows[:4], link(5, NOW, deed("other"), rows[3].hash)]

    assert verdict_on([*rows[:2], changed, *rows[3:]], rows).first_bad_seq == 3
    assert verdict_on([*rows[:2], anew, *rows[3:]], rows).first_bad_seq == 4
    assert verdict_on([*rows[:2], elsewhere, *rows[3:]], rows).first_bad_seq == 3
    assert verdict_on([*rows[:2], *rows[3:]], rows) == Verdict(False, 2, 3, "the row is missing")
    assert verdict_on(shorter, rows) == Verdict(False, 3, 4, "the rows up to 5 are missing")
    assert verdict_on(last_anew, rows).reason == "it is not the row that was written as the last one"


def test_a_deed_is_made_fit_for_both_databases() -> None:
    made = cleaned(deed("a\0b" + "x" * 999, actor="\ud800", details={"at": NOW, "n": (1,), "big": 10**30}))

    assert made.subject == "ab" + "x" * 254
    assert made.actor == "?"
    assert made.details == {"at": "2026-11-21T08:30:00.123457Z", "n": [1], "big": 10**30}


@pytest.mark.parametrize("details", [{"x": object()}, {"x": float("nan")}])
def test_details_that_are_no_json_are_refused(details: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="JSON"):
        cleaned(deed(details=details))
