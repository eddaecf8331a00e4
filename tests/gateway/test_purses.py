from datetime import UTC, datetime, timedelta, timezone

import pytest

from llmgateway.caller import Budget, Period
from llmgateway.gateway.purses import period_of, purse_of


@pytest.mark.parametrize(
    ("period", "now", "label", "start", "end"),
    [
        ("day", "2026-11-21T23:59:59", "2026-11-21", "2026-11-21", "2026-11-22"),
        ("week", "2026-11-22T12:00:00", "2026-W47", "2026-11-16", "2026-11-23"),
        ("week", "2027-01-01T00:00:00", "2026-W53", "2026-12-28", "2027-01-04"),
        ("month", "2026-11-01T00:00:00", "2026-11", "2026-11-01", "2026-12-01"),
        ("month", "2026-12-31T23:59:59", "2026-12", "2026-12-01", "2027-01-01"),
    ],
)
def test_periods_are_those_of_the_calendar(period: Period, now: str, label: str, start: str, end: str) -> None:
    def utc(text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)

    assert period_of(period, utc(now)) == (label, utc(start), utc(end))


def test_a_period_is_that_of_utc_wherever_the_process_runs() -> None:
    evening = datetime(2026, 10, 31, 23, 30, tzinfo=timezone(timedelta(hours=-5)))

    assert period_of("month", evening)[0] == "2026-11"


def test_a_total_has_no_end() -> None:
    assert period_of("total", datetime.now(UTC)) == ("total", None, None)


def test_a_purse_counts_billionths_of_a_dollar() -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    purse = purse_of("key", "key_1", Budget(0.1, "month", soft_usd=0.05), now)

    assert (purse.name, purse.key) == ("key.budget", "budget:key:key_1:month:2026-11")
    assert (purse.hard_nusd, purse.soft_nusd) == (100_000_000, 50_000_000)
    assert purse.starts_at == datetime(2026, 11, 1, tzinfo=UTC).timestamp()
    assert purse.ends_at == datetime(2026, 12, 1, tzinfo=UTC).timestamp()


def test_each_period_and_each_owner_has_its_own() -> None:
    one, other = datetime(2026, 11, 30, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    keys = {
        purse_of("key", "a", Budget(1), one).key,
        purse_of("key", "a", Budget(1), other).key,
        purse_of("key", "b", Budget(1), one).key,
        purse_of("organization", "a", Budget(1), one).key,
        purse_of("key", "a", Budget(1, "day"), one).key,
    }

    assert len(keys) == 5
