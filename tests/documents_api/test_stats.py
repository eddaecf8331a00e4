from datetime import timedelta

import pytest
from msgspec import structs

from llmgateway.caller import Caller
from llmgateway.documents_api import stats
from llmgateway.ids import new_uuid
from llmgateway.jobs.order import Order
from llmgateway.jobs.running.passes import added
from llmgateway.storage.jobs.rows import Wanted
from tests.documents_api.front import Front
from tests.jobs.shop import done, key


async def three_jobs(front: Front) -> None:
    for status in ("completed", "completed", "failed"):
        await front.shop.end(await front.shop.submit(), status, passes=[done()])


async def test_a_services_figures_add_up(front: Front) -> None:
    await three_jobs(front)
    await front.shop.end(await front.shop.submit(flavor="brief"))

    shown = await front.ask("GET", "/services/minutes/stats")

    assert shown["jobs"] == {"total": 4, "completed": 3, "failed": 1, "cancelled": 0}
    assert (shown["success_rate"], shown["passes"]) == (0.75, 3)
    assert shown["cost"] == {"total": 0.006, "average": 0.0015}
    assert shown["tokens"]["total"] == 480
    assert shown["duration_ms"]["p95"] >= 0
    assert [(one["flavor_name"], one["jobs"]["total"]) for one in shown["flavors"]] == [("iterative", 3), ("brief", 1)]


async def test_a_flavors_figures_are_its_own(front: Front) -> None:
    await three_jobs(front)
    flavor = front.shop.rows["flavor"][1]

    shown = await front.ask("GET", f"/flavors/{flavor.id}/stats?period=all")

    assert (shown["flavor_name"], shown["period"], shown["jobs"]["total"]) == ("brief", "all", 0)
    assert (shown["success_rate"], shown["duration_ms"]["average"], shown["last_used_at"]) == (None, None, None)


async def test_only_jobs_of_the_time_count(front: Front) -> None:
    await three_jobs(front)
    front.now += timedelta(days=2)

    for period, total in (("24h", 0), ("7d", 3), ("30d", 3), ("all", 3)):
        assert (await front.ask("GET", f"/services/minutes/stats?period={period}"))["jobs"]["total"] == total
    assert (await front.ask("GET", "/services/minutes/stats"))["period"] == "7d"
    await front.refused("GET", "/services/minutes/stats?period=1y", status=422)


async def test_the_dashboard_is_of_all_services(front: Front) -> None:
    other = front.shop.service("other")
    front.shop.flavor(other)
    await three_jobs(front)
    await front.shop.end(await front.shop.submit(service="other"))
    await front.shop.submit(priority=2)

    shown = await front.ask("GET", "/analytics/dashboard")

    assert [(one["service_name"], one["jobs"]["total"]) for one in shown["services"]] == [("Minutes", 3), ("Other", 1)]
    assert [one["error"]["code"] for one in shown["recent_failures"]] == ["provider_unavailable"]
    assert shown["queued"] == {"2": 1}


async def test_pitfall_109_each_sees_the_figures_of_the_own_jobs(front: Front) -> None:
    for name in ("acme", "other"):
        await front.shop.end(await front.shop.submit(organization=name, caller=key(name)))
    theirs = front.shop.flavor(front.shop.service("theirs", "other"), "theirs")
    front.caller = key("acme")

    assert (await front.ask("GET", "/services/minutes/stats"))["jobs"]["total"] == 1
    shown = await front.ask("GET", "/analytics/dashboard")
    assert (shown["jobs"]["total"], "queued" in shown) == (1, False)
    for path in ("/services/theirs", f"/flavors/{theirs.id}", f"/flavors/{new_uuid()}"):
        await front.refused("GET", f"{path}/stats", status=404)
    front.caller = Caller(kind="admin", key_id="admin")
    assert (await front.ask("GET", "/services/minutes/stats"))["jobs"]["total"] == 2


async def test_many_jobs_add_up_apart(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await front.shop.submit()
    await front.shop.end(job)
    (row,) = await front.shop.jobs.spans(None, front.everything)
    rows = [structs.replace(row, service_name="Before") for _ in range(600)]

    async def spans(*_: object) -> object:
        return rows

    monkeypatch.setattr(front.shop.jobs, "spans", spans)

    assert (await front.ask("GET", "/analytics/dashboard"))["jobs"]["total"] == 600
    assert stats.routes(front.shop.services, front.shop.jobs)


async def test_what_a_resumed_job_began_with_was_paid_for_once(front: Front) -> None:
    job = await front.shop.submit()
    await front.shop.end(job, "failed", passes=[done()])
    resumed, _ = await front.shop.desk.resume(job.id, Wanted(everyone=True), Order(service="", text=""))
    before = resumed.origin.inherited
    await front.shop.end(resumed, totals=added(before, structs.replace(done(), number=2, cost_nusd=7)))

    shown = await front.ask("GET", "/services/minutes/stats")

    assert (before.passes, before.cost_nusd) == (1, done().cost_nusd)
    assert shown["passes"] == 2
    assert shown["cost"]["total"] == (1_500_000 + 7) / 1e9
    assert shown["tokens"]["prompt"] == 100 + done().prompt_tokens


async def test_a_resumed_job_that_never_ran_has_cost_nothing(front: Front) -> None:
    job = await front.shop.submit()
    await front.shop.end(job, "failed", passes=[done()])
    resumed, _ = await front.shop.desk.resume(job.id, Wanted(everyone=True), Order(service="", text=""))
    await front.shop.desk.cancel(resumed.id, Wanted(everyone=True))

    shown = await front.ask("GET", "/services/minutes/stats")

    assert (shown["passes"], shown["cost"]["total"]) == (1, 0.0015)
