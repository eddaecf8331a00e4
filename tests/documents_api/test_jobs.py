from datetime import timedelta
from typing import Any

import pytest

from llmgateway.caller import ANYONE, Caller
from llmgateway.ids import new_uuid
from llmgateway.storage.jobs.rows import Status, Step
from llmgateway.telemetry.traces.jobs import trace_id_of
from tests.documents_api.front import Front
from tests.jobs.shop import done, key

HEADERS = {"X-Organization-ID": "acme"}


async def test_a_job_is_read_with_all_that_is_known_of_it(front: Front) -> None:
    job = await front.shop.submit(
        organization="acme",
        caller=key("acme"),
        idempotency_key="/api/v1/x my key",
        trace="00-" + "a" * 32 + "-" + "b" * 16,
    )
    await front.shop.end(job, passes=[done()])
    front.caller = key("acme")

    shown = await front.ask("GET", f"/jobs/{job.id}")

    assert (shown["status"], shown["result"], shown["current_version"]) == ("completed", "# Minutes\n\nWe ship.", 1)
    assert (shown["preview"], shown["service_route"], shown["error"]) == ("Ada: hello.", "minutes", None)
    assert (shown["key_id"], shown["idempotency_key"]) == ("key_1", "my key")
    assert shown["trace_id"] == trace_id_of(shown["id"])
    assert shown["metrics"]["total_tokens"] == 120
    assert shown["metrics"]["cost"] == 0.0015
    assert [one["pass_type"] for one in shown["passes"]] == ["initial"]
    assert shown["created_at"].endswith("Z")
    assert shown["completed_at"] >= shown["created_at"]


async def test_a_result_is_given_alone(front: Front) -> None:
    job = await front.shop.submit()
    assert (await front.refused("GET", f"/jobs/{job.id}?format=md", status=409))["error_code"] == "JOB_NOT_ENDED"
    await front.shop.end(job)

    text, markdown = [await front.send("GET", f"/jobs/{job.id}?format={form}") for form in ("text", "md")]

    assert text.text == markdown.text == "# Minutes\n\nWe ship."
    assert text.headers["content-type"] == "text/plain; charset=utf-8"
    assert markdown.headers["content-type"] == "text/markdown; charset=utf-8"
    error = await front.refused("GET", f"/jobs/{job.id}?format=pdf", status=422)
    assert error["errors"][0]["loc"] == ["query", "format"]


async def test_a_failed_job_says_why_and_gives_what_there_is(front: Front) -> None:
    job = await front.shop.submit()
    await front.shop.end(job, "failed")

    shown = await front.ask("GET", f"/jobs/{job.id}")

    assert shown["error"] == {"code": "provider_unavailable", "message": "The provider failed."}
    assert (await front.send("GET", f"/jobs/{job.id}?format=text")).text == ""


async def test_what_is_final_of_a_running_job_is_shown(front: Front) -> None:
    job = await front.shop.submit()
    claimed = await front.shop.jobs.claim("worker", 15.0)
    assert claimed is not None
    await front.shop.jobs.commit(claimed.lease, Step(status="processing", output="We "))

    shown = await front.ask("GET", f"/jobs/{job.id}")

    assert (shown["status"], shown["partial_result"], shown["result"]) == ("processing", "We ", None)


async def test_jobs_are_listed_newest_first_page_by_page(front: Front) -> None:
    ids = [(await front.shop.submit()).id for _ in range(3)]

    first = await front.ask("GET", "/jobs?page_size=2")
    second = await front.ask("GET", "/jobs?page_size=2&page=2")

    assert [one["id"] for one in first["items"] + second["items"]] == ids[::-1]
    assert {name: first[name] for name in ("total", "page", "page_size", "total_pages")} == {
        "total": 3,
        "page": 1,
        "page_size": 2,
        "total_pages": 2,
    }


async def test_jobs_are_listed_by_their_state_and_service(front: Front) -> None:
    other = front.shop.service("other")
    front.shop.flavor(other)
    ended = await front.shop.submit()
    await front.shop.end(ended)
    waiting = await front.shop.submit(service="other")

    for query, expected in (
        ("status=completed", [ended.id]),
        ("status=queued", [waiting.id]),
        (f"service_id={other.id}", [waiting.id]),
        (f"service_id={other.id}&status=completed", []),
    ):
        assert [one["id"] for one in (await front.ask("GET", f"/jobs?{query}"))["items"]] == expected


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("status=done", "status"),
        ("page=0", "page"),
        ("page_size=101", "page_size"),
        ("page=x", "page"),
        ("state=x", "state"),
    ],
)
async def test_what_is_asked_wrong_is_named(front: Front, query: str, name: str) -> None:
    error = await front.refused("GET", f"/jobs?{query}", status=422)

    assert error["errors"][0]["loc"] == ["query", name]


async def seen(front: Front, query: str = "", **more: Any) -> set[str]:
    return {one["id"] for one in (await front.ask("GET", f"/jobs{query}", **more))["items"]}


async def test_pitfall_109_each_sees_the_jobs_of_the_own_organization_or_key(front: Front) -> None:
    acme, other = [(await front.shop.submit(organization=name, caller=key(name))).id for name in ("acme", "other")]
    first, second = [(await front.shop.submit(caller=key(key_id=name))).id for name in ("key_1", "key_2")]
    nobody = (await front.shop.submit()).id
    everything = {acme, other, first, second, nobody}
    for caller, expected in (
        (key("acme", key_id="key_9"), {acme}),
        (key("other"), {other}),
        (key(key_id="key_1"), {first}),
        (key(key_id="key_2"), {second}),
        (Caller(kind="admin", key_id="admin"), everything),
        (ANYONE, {first, second, nobody}),
    ):
        front.caller = caller
        assert await seen(front) == expected
        for job_id in everything:
            for path in ("", "/metrics", "/versions"):
                await front.ask("GET", f"/jobs/{job_id}{path}", status=200 if job_id in expected else 404)

    assert await seen(front, headers=HEADERS) == {acme}
    assert await seen(front, "?organization_id=other") == {other}
    front.caller = key("acme")
    await front.refused("GET", "/jobs?organization_id=other", status=404)


async def test_pitfall_109_another_organizations_job_is_a_404_by_every_way(front: Front) -> None:
    job = await front.shop.submit(organization="acme")
    front.caller = key("other")
    texts = set()
    for job_id in (job.id, new_uuid(), "no-id", "%00"):
        for method, path, body in (
            ("GET", "", None),
            ("DELETE", "", None),
            ("GET", "/metrics", None),
            ("POST", "/cancel", {}),
            ("POST", "/rerun", {}),
            ("POST", "/resume", {}),
            ("PATCH", "/result", {"content": "x"}),
            ("GET", "/versions", None),
            ("GET", "/versions/1", None),
            ("DELETE", "/versions/1", None),
            ("POST", "/versions/1/restore", {}),
            ("GET", "/versions/1/diff/1", None),
        ):
            error = await front.refused(method, f"/jobs/{job_id}{path}", body, status=404)
            texts.add(error["detail"].replace(job_id, "…").replace("\0", "…"))

    assert len(texts) == 1
    front.caller = key("acme")
    assert (await front.ask("GET", f"/jobs/{job.id}"))["status"] == "queued"


async def test_an_organization_that_is_none_shows_nothing(front: Front) -> None:
    front.caller = key("acme")
    await front.refused("GET", "/jobs?organization_id=a%20b", status=404)
    front.caller = ANYONE
    error = await front.refused("GET", "/jobs?organization_id=a%20b", status=422)
    assert error["errors"][0]["loc"] == ["query", "organization_id"]


async def test_a_job_is_cancelled(front: Front) -> None:
    job = await front.shop.submit()

    assert (await front.ask("POST", f"/jobs/{job.id}/cancel"))["status"] == "cancelled"
    assert (await front.ask("POST", f"/jobs/{job.id}/cancel", {}))["status"] == "cancelled"
    await front.refused("POST", f"/jobs/{job.id}/cancel", {"now": True}, status=422)


async def test_a_job_is_run_again(front: Front) -> None:
    job = await front.shop.submit()
    await front.shop.end(job)
    headers = {"Idempotency-Key": "again"}

    again = await front.ask("POST", f"/jobs/{job.id}/rerun", {"flavor_name": "brief"}, 202, headers=headers)

    assert (again["flavor_name"], again["job_id"] != job.id) == ("brief", True)
    assert (await front.ask("GET", f"/jobs/{again['job_id']}"))["from_job_id"] == job.id
    assert await front.ask("POST", f"/jobs/{job.id}/rerun", {"flavor_name": "brief"}, 202, headers=headers) == again
    await front.refused("POST", f"/jobs/{job.id}/rerun", {"flavor_name": "none"}, status=404)
    assert (await front.ask("POST", f"/jobs/{job.id}/rerun", status=202))["flavor_name"] == "iterative"


@pytest.mark.parametrize(("status", "expected"), [("failed", 202), ("completed", 409)])
async def test_only_a_failed_job_is_resumed(front: Front, status: Status, expected: int) -> None:
    job = await front.shop.submit()
    await front.shop.end(job, status, passes=[done()])

    answer = await front.ask("POST", f"/jobs/{job.id}/resume", status=expected)

    if expected == 202:
        assert len((await front.ask("GET", f"/jobs/{answer['job_id']}"))["passes"]) == 1
    else:
        assert (answer["error_code"], answer["status"]) == ("JOB_NOT_FAILED", "completed")


async def test_only_an_ended_job_is_deleted(front: Front) -> None:
    job = await front.shop.submit()
    assert (await front.refused("DELETE", f"/jobs/{job.id}", status=409))["error_code"] == "JOB_NOT_ENDED"
    await front.shop.end(job)

    assert await front.ask("DELETE", f"/jobs/{job.id}") == {"id": job.id, "deleted": True}
    await front.refused("GET", f"/jobs/{job.id}", status=404)


async def test_metrics_are_of_each_call_and_of_all(front: Front) -> None:
    job = await front.shop.submit()
    await front.shop.end(job, passes=[done("batch:0-5"), done("batch:5-11", 2)])

    shown = await front.ask("GET", f"/jobs/{job.id}/metrics")

    assert [one["pass_number"] for one in shown["passes"]] == [1, 2]
    assert (shown["totals"]["passes"], shown["totals"]["prompt_tokens"]) == (2, 100)
    assert shown["passes"][0]["cost"] == 0.0015


async def test_only_administrators_clean_up(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    found = [["1", "2"], ["3"], []]

    async def delete_expired(most: int) -> list[str]:
        assert most > 1
        return found.pop(0)

    monkeypatch.setattr(front.shop.jobs, "delete_expired", delete_expired)
    for caller in (ANYONE, key("acme")):
        front.caller = caller
        error = await front.refused("POST", "/jobs/cleanup-expired", status=403)
        assert error["error_code"] == "ADMIN_REQUIRED"
    front.may_administer = True

    assert await front.ask("POST", "/jobs/cleanup-expired") == {"deleted": 3}
    assert [(deed.action, deed.actor, deed.details) for deed in front.noted] == [
        ("jobs.cleanup", front.caller.key_id, {"deleted": 3})
    ]


async def test_a_ttl_is_counted_from_the_end(front: Front) -> None:
    front.shop.flavor(front.shop.service("brief"), default_ttl_seconds=60)
    job = await front.shop.submit(service="brief")
    assert (await front.ask("GET", f"/jobs/{job.id}"))["expires_at"] is None
    await front.shop.end(job)

    ended = await front.shop.jobs.job(job.id, front.everything)

    assert ended is not None
    assert ended.expires_at is not None
    assert ended.completed_at is not None
    assert ended.expires_at - ended.completed_at == timedelta(seconds=60)
