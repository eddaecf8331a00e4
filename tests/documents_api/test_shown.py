from datetime import UTC, datetime, timedelta, timezone

import msgspec

from llmgateway.caller import ANYONE
from llmgateway.documents_api.shown import job_json, job_shown, moment, totals_shown, usd
from llmgateway.storage.jobs.rows import FailoverStep, JobRow, Origin, Records, Totals
from llmgateway.telemetry.traces.jobs import trace_id_of

AT = datetime(2026, 11, 21, 8, 30, 0, 123_456, tzinfo=UTC)


def test_moments_are_in_utc_to_the_millisecond() -> None:
    assert moment(AT) == "2026-11-21T08:30:00.123Z"
    assert moment(AT.astimezone(timezone(timedelta(hours=5, minutes=30)))) == "2026-11-21T08:30:00.123Z"
    assert moment(None) is None


def test_what_is_not_known_is_null_and_never_0() -> None:
    assert (usd(None), usd(1_500_000)) == (None, 0.0015)
    assert totals_shown(Totals(prompt_tokens=2, completion_tokens=3, cost_nusd=None))["cost"] is None
    assert totals_shown(Totals(prompt_tokens=2, completion_tokens=3))["total_tokens"] == 5


def test_how_a_job_came_to_its_flavor_is_shown() -> None:
    job = JobRow(
        id="1",
        service_id="2",
        service_name="Minutes",
        service_route="minutes",
        flavor_id="3",
        flavor_name="brief",
        organization_id=None,
        status="cancelled",
        priority=5,
        origin=Origin(caller=ANYONE, trace="no trace"),
        created_at=AT,
        records=Records(failover_applied=True, failover_chain=(FailoverStep("brief", "timeout"),)),
        partial="We ",
    )

    shown = job_shown(job)

    assert shown["failover_chain"] == [{"flavor": "brief", "reason": "timeout"}]
    assert (shown["idempotency_key"], shown["partial_result"]) == (None, None)
    assert shown["trace_id"] == trace_id_of("1")
    assert "passes" not in shown
    assert msgspec.json.decode(job_json(job)) == msgspec.json.decode(msgspec.json.encode(shown))
