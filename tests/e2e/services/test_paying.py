"""What services cost, whom it is counted for, and what the ledger tells of it: each call of a model once."""

from typing import Any

import pytest

from tests.conftest import Serve
from tests.e2e.made_keys import ADMIN_KEY, administer, make_key
from tests.e2e.services.asking import ended
from tests.e2e.services.scribe import make_service
from tests.running import Running
from tests.upstreams.server import Player

TEXT = "\n\n".join(f"Sentence number {number}." for number in range(5))
CLIENTS: dict[str, Any] = {"auth__mode": "client", "admin_key": ADMIN_KEY}
ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}


async def run(g: Running, **more: Any) -> dict[str, Any]:
    """Run the service; gives the job."""
    body = {"model": "service/notes", "messages": [{"role": "user", "content": TEXT}], **more}
    answer = await g.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = (await g.client.get(f"/api/v1/jobs/{answer.headers['x-job-id']}")).json()
    assert job["status"] == "completed", job
    return job


async def as_client(g: Running, **fields: Any) -> str:
    """Ask as the holder of a new key; gives its id."""
    await make_service_as_admin(g)
    made = await make_key(g.url, **fields)
    g.client.headers["Authorization"] = f"Bearer {made['key']}"
    key_id: str = made["id"]
    return key_id


async def make_service_as_admin(g: Running) -> None:
    g.client.headers["Authorization"] = f"Bearer {ADMIN_KEY}"
    await make_service(g.client)


async def test_usage_is_the_sum_of_the_passes_and_nothing_more(gateway: Serve, catalog: str) -> None:
    g = await gateway(catalog)
    await make_service(g.client)

    jobs = [await run(g), await run(g, stream=True)]

    usage = (await g.client.get("/v1/usage")).json()["total"]
    passes = [one for job in jobs for one in job["passes"]]
    assert len(passes) == 10
    for field in ("prompt_tokens", "completion_tokens"):
        assert usage[field] == sum(one[field] for one in passes) > 0
    assert usage["cost_usd"] == pytest.approx(sum(one["cost"] for one in passes))
    assert usage["unpriced_requests"] == usage["errors"] == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_the_request_and_each_pass_are_in_the_ledger(gateway: Serve, catalog: str, stream: bool) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    job = await run(g, stream=stream)

    call = (await g.client.get(f"/v1/requests/{job['request_id']}")).json()
    passes = [(await g.client.get(f"/v1/requests/{one['request_id']}")).json() for one in job["passes"]]

    assert (call["requested_model"], call["status"], call["attempts"]) == ("service/notes", 200, [])
    assert (call["usage"], call["cost_usd"]) == (None, None)
    assert call["route"]["reason"] == f"job {job['id']}"
    # What the job did was no overhead of the request.
    assert call["timings"]["overhead_ms"] < call["timings"]["duration_ms"]
    assert [one["client_request_id"] for one in passes] == [job["id"]] * 5
    assert [one["cost_usd"] for one in passes] == [one["cost"] for one in job["passes"]]
    assert {one["model"] for one in passes} == {"chat"}


async def test_limits_count_each_pass_for_who_ordered_the_job(gateway: Serve, catalog: str) -> None:
    g = await gateway(catalog, **CLIENTS)
    key_id = await as_client(g, limits={"requests_per_hour": 60, "burst": 100, "cooldown_seconds": 0})

    job = await run(g)

    rates = (await administer(g.url, "GET", f"/admin/limits?key_id={key_id}"))["rates"]
    [hour] = [rate for rate in rates if rate["rule"] == "key.requests_per_hour"]
    assert hour["burst"] - hour["remaining"] == 5
    assert job["key_id"] == key_id


async def test_a_job_waits_for_the_limits_of_its_key_and_says_so(gateway: Serve, catalog: str) -> None:
    g = await gateway(catalog, **CLIENTS)
    await as_client(g, limits={"requests_per_minute": 120, "burst": 2, "cooldown_seconds": 0})

    job = await run(g)

    events = (await g.client.get(f"/api/v1/jobs/{job['id']}/events")).text
    assert len(job["passes"]) == 5
    assert "event: retry" in events
    assert "rate_limit" in events


async def test_a_budget_that_is_spent_ends_the_job_and_it_can_be_resumed(
    gateway: Serve, catalog: str, provider: Player
) -> None:
    g = await gateway(catalog, **CLIENTS, retry__jobs__max_retries="0")
    key_id = await as_client(g, budget={"usd": 0.02, "period": "day"})
    body = {"model": "service/notes", "messages": [{"role": "user", "content": "word " * 300 + "\n\nMore.\n\nEnd."}]}

    first = await g.client.post("/v1/chat/completions", json=body)
    while first.status_code == 200:
        first = await g.client.post("/v1/chat/completions", json=body)
    job_id = first.json()["error"]["details"]["job_id"]
    job = (await g.client.get(f"/api/v1/jobs/{job_id}")).json()
    calls = provider.requests_total
    await administer(g.url, "PATCH", f"/admin/keys/{key_id}", budget={"usd": 10, "period": "day"})
    resumed = await g.client.post(f"/api/v1/jobs/{job_id}/resume")

    assert job["status"] == "failed"
    assert job["error"]["code"] == "insufficient_quota"
    assert resumed.status_code == 202
    again = await ended(g.client, resumed.json()["job_id"])
    assert provider.requests_total == calls + len(again["passes"]) - len(job["passes"])


async def test_a_key_may_run_what_it_names_and_nothing_else(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog, **CLIENTS)
    await as_client(g, models=["service/notes"])

    assert (await run(g))["status"] == "completed"
    named = (await g.client.get("/v1/models")).json()["data"]
    others = [
        await g.client.post(
            "/v1/chat/completions", json={"model": model, "messages": [{"role": "user", "content": "x"}]}
        )
        for model in ("chat", "service/summarize")
    ]

    assert [model["id"] for model in named] == ["service/notes"]
    assert [answer.status_code for answer in others] == [403, 403]
    assert provider.requests_total == 5


async def test_a_key_asks_for_no_priority_that_its_owner_did_not_allow(gateway: Serve, catalog: str) -> None:
    g = await gateway(catalog, **CLIENTS)
    await as_client(g)

    body = {"model": "service/notes", "messages": [{"role": "user", "content": TEXT}], "service": {"priority": 0}}
    answer = await g.client.post("/v1/chat/completions", json=body)

    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "priority_not_allowed"
