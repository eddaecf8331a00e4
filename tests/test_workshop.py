from datetime import UTC, datetime

import anyio
import httpx2

from llmgateway.flavor import Flavor
from llmgateway.jobs.services import Service
from llmgateway.settings import load_settings
from llmgateway.storage.documents.rows import FlavorRow, ServiceRow
from llmgateway.workshop import models_of, times_of
from tests.conftest import Serve
from tests.running import opened

NOW = datetime.now(UTC)


def flavor(name: str, *, is_active: bool = True) -> FlavorRow:
    return FlavorRow(
        id=name,
        service_id="s",
        name=name,
        unique_name=f"s/{name}",
        settings=Flavor(model="chat"),
        created_at=NOW,
        updated_at=NOW,
        is_active=is_active,
    )


def test_a_service_is_a_model_by_itself_and_with_each_of_its_active_flavors() -> None:
    row = ServiceRow(
        id="s",
        name="Minutes",
        route="minutes",
        service_type="summary",
        unique_name="/Minutes",
        unique_route="/minutes",
        created_at=NOW,
        updated_at=NOW,
    )

    models = models_of(Service(row=row, flavors=(flavor("long"), flavor("old", is_active=False))))

    assert [model.id for model in models] == ["service/minutes", "service/minutes:long"]
    assert {model.owned_by for model in models} == {"llmgateway"}


def test_leases_are_looked_at_often_enough_however_short_they_are() -> None:
    usual = times_of(load_settings({}))
    short = times_of(load_settings({"LLMGATEWAY_JOBS__LEASE_S": "1", "LLMGATEWAY_REQUEST_TIMEOUT_S": "20"}))

    assert (usual.lease_s, usual.look_every_s, usual.request_s) == (15, 1, 590)
    assert (short.lease_s, short.look_every_s, short.request_s) == (1, 0.2, 20)


async def run_job(client: httpx2.AsyncClient, text: str) -> dict[str, object]:
    answer = await client.post("/api/v1/services/summarize/execute", json={"input": text})
    assert answer.status_code == 202, answer.text
    with anyio.fail_after(20):
        while True:
            job: dict[str, object] = (await client.get(answer.headers["location"])).json()
            if job["status"] in {"completed", "failed"}:
                return job
            await anyio.sleep(0.02)


async def test_a_gateway_without_a_queue_runs_its_jobs_itself(gateway: Serve) -> None:
    served = await gateway()
    await opened(served.client)

    job = await run_job(served.client, "One thing is said here. Another thing is said there.")

    assert job["status"] == "completed"
    assert "demo" in str(job["warnings"])
    assert 'llm_jobs_total{outcome="completed",service="summarize"} 1.0' in (await served.client.get("/metrics")).text


async def test_a_gateway_that_embeds_no_worker_leaves_them_for_one(gateway: Serve) -> None:
    served = await gateway(embedded_worker="off")
    await opened(served.client)

    answer = await served.client.post("/api/v1/services/summarize/execute", json={"input": "Text."})
    job = (await served.client.get(answer.headers["location"])).json()

    assert job["status"] == "queued"
    with anyio.fail_after(20):
        while 'llm_queue_depth{priority="5"} 1.0' not in (await served.client.get("/metrics")).text:  # noqa: ASYNC110
            await anyio.sleep(0.05)


async def test_of_two_services_of_one_route_the_one_that_answers_is_listed(gateway: Serve) -> None:
    served = await gateway()
    await opened(served.client)
    acme = {"X-Organization-ID": "acme"}
    own = {"name": "Summarize", "service_type": "summary", "flavors": [{"name": "own", "model": "auto"}]}
    made = await served.client.post("/api/v1/services", json=own, headers=acme)
    assert made.status_code == 201, made.text

    listed = (await served.client.get("/v1/models", headers=acme)).json()["data"]
    everybodys = (await served.client.get("/v1/models")).json()["data"]

    assert [one["id"] for one in listed if one["id"].startswith("service/summarize")] == [
        "service/summarize",
        "service/summarize:own",
    ]
    assert "service/summarize:iterative" in {one["id"] for one in everybodys}
