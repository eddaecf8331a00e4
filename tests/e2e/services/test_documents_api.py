"""Document services over plain REST, through the whole gateway."""

from typing import Any

import httpx2
import msgspec
import pytest

from tests.conftest import Serve
from tests.e2e.made_keys import ADMIN_KEY
from tests.e2e.services.asking import ask, ended, order, ran
from tests.e2e.services.scribe import Scribe, add_flavor, make_service
from tests.upstreams.server import Player

LINES = tuple(f"Sentence number {number}." for number in range(4))
TEXT = "\n\n".join(LINES)
WRITTEN = TEXT.upper()
SRT = "1\n00:00:01,000 --> 00:00:02,000\nAnna: Good morning.\n\n2\n00:00:03,000 --> 00:00:04,000\nBen: Good evening.\n"
NOBODY = "00000000-0000-7000-8000-000000000000"


async def test_an_order_is_taken_run_and_read_in_three_forms(gateway: Serve, catalog: str) -> None:
    g = await gateway(catalog)
    service = await make_service(g.client)

    answer = await g.client.post("/api/v1/services/notes/execute", json={"input": TEXT, "metadata": {"a": [1]}})
    taken = answer.json()
    job = await ended(g.client, taken["job_id"])
    forms = [await g.client.get(f"/api/v1/jobs/{taken['job_id']}", params={"format": name}) for name in ("text", "md")]

    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/v1/jobs/{taken['job_id']}"
    assert (taken["service_id"], taken["flavor_name"], taken["fallback_applied"]) == (service["id"], "plain", False)
    assert taken["input_tokens"] == job["input_tokens"] > 0
    assert taken["context_available"] > 0
    assert (job["result"], job["metadata"], job["preview"]) == (WRITTEN, {"a": [1]}, TEXT)
    assert [form.text for form in forms] == [WRITTEN, WRITTEN]


async def test_a_file_is_read_by_what_it_is(gateway: Serve, catalog: str) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    files = {"file": ("meeting.txt", SRT.encode(), "application/octet-stream")}

    taken = await ask(g.client, "POST", "/services/notes/run", 202, files=files, data={"metadata": '{"a": "b"}'})
    job = await ended(g.client, taken["job_id"])
    refused = await ask(g.client, "POST", "/services/notes/run", 400, files={"file": ("a.pdf", b"%PDF-1.7\n\0")})

    assert "ANNA: GOOD MORNING." in job["result"]
    assert "-->" not in job["result"]
    assert (job["input_file_name"], job["metadata"]) == ("meeting.txt", {"a": "b"})
    assert refused["error_code"] == "UNSUPPORTED_FILE"


@pytest.mark.parametrize(
    "flavor",
    [
        {"processing_mode": "iterative"},
        {"processing_mode": "map_reduce"},
        {"processing_mode": "map_reduce", "reduce_summary": True},
        {"processing_mode": "iterative", "reduce_summary": True, "max_new_turns": 2},
        {"processing_mode": "single_pass"},
    ],
    ids=lambda flavor: "-".join(map(str, flavor.values())),
)
async def test_a_run_does_what_its_plan_says(
    gateway: Serve, catalog: str, provider: Player, flavor: dict[str, Any]
) -> None:
    g = await gateway(catalog)
    await make_service(g.client, **flavor)

    plan = await ask(g.client, "POST", "/services/notes/validate-execution", json={"input": TEXT})
    assert provider.requests_total == 0
    job = await ran(g.client, TEXT)

    assert plan["valid"]
    assert plan["mode"] == flavor["processing_mode"]
    assert (plan["batches"], plan["input_tokens"]) == (job["progress"]["total_batches"], job["input_tokens"])
    assert plan["calls"] == len(job["passes"]) == provider.requests_total


async def test_the_same_key_and_body_are_the_same_job(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    key = {"Idempotency-Key": "order-1"}

    answers = [
        await g.client.post("/api/v1/services/notes/execute", json={"input": TEXT}, headers=key) for _ in range(2)
    ]
    other = await ask(g.client, "POST", "/services/notes/execute", 409, json={"input": "x"}, headers=key)
    elsewhere = await ask(g.client, "POST", "/services/summarize/execute", 202, json={"input": TEXT}, headers=key)
    first = answers[0].json()["job_id"]
    await ended(g.client, first)
    again = await ask(g.client, "POST", f"/jobs/{first}/rerun", 202, headers=key)
    twice = await ask(g.client, "POST", f"/jobs/{first}/rerun", 202, headers=key)
    await ended(g.client, again["job_id"])
    await ended(g.client, elsewhere["job_id"])

    assert [answer.json()["job_id"] for answer in answers] == [first, first]
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, "true"]
    assert other["error_code"] == "IDEMPOTENCY_CONFLICT"
    assert again["job_id"] == twice["job_id"] != first
    assert [text.strip() for text in _asked(provider)].count(LINES[0]) == 2


def _asked(provider: Player) -> list[str]:
    return [request.json["messages"][-1]["content"] for request in provider.requests]


async def test_jobs_are_listed_by_what_they_are(gateway: Serve, catalog: str, provider: Player, scribe: Scribe) -> None:
    g = await gateway(catalog, retry__jobs__max_retries="0")
    service = await make_service(g.client)
    done = [(await ran(g.client, f"Text {number}."))["id"] for number in range(3)]
    provider.script(scribe.error(400, "No."))
    failed = await order(g.client, TEXT)
    await ended(g.client, failed, "failed")

    pages = [await ask(g.client, "GET", "/jobs", params={"page_size": 2, "page": page}) for page in (1, 2, 3)]
    by_status = await ask(g.client, "GET", "/jobs", params={"status": "failed"})
    by_service = await ask(g.client, "GET", "/jobs", params={"service_id": service["id"], "status": "completed"})
    wrong = await ask(g.client, "GET", "/jobs", 422, params={"status": "done"})

    assert [job["id"] for page in pages for job in page["items"]] == [failed, *reversed(done)]
    assert [(page["total"], page["total_pages"]) for page in pages] == [(4, 2)] * 3
    assert [job["id"] for job in by_status["items"]] == [failed]
    assert by_service["total"] == 3
    assert wrong["errors"][0]["loc"] == ["query", "status"]


async def test_a_job_is_cancelled_in_flight_with_what_it_has(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    provider.script(lambda step: step)
    provider.always(lambda step: step.held(lambda: False))
    job_id = await order(g.client, TEXT)
    await provider.until(lambda: provider.requests_total == 2, 20)

    cancelled = await ask(g.client, "POST", f"/jobs/{job_id}/cancel")
    await provider.until(lambda: provider.in_flight == 0, 6)
    again = await ask(g.client, "POST", f"/jobs/{job_id}/cancel")

    assert cancelled["status"] == again["status"] == "cancelled"
    assert cancelled["result"] == LINES[0].upper()
    assert (await g.client.get(f"/api/v1/jobs/{job_id}?format=text")).text == LINES[0].upper()
    assert (await ask(g.client, "POST", f"/jobs/{job_id}/resume", 409))["error_code"] == "JOB_NOT_FAILED"


async def test_a_failed_job_goes_on_where_it_stopped(
    gateway: Serve, catalog: str, provider: Player, scribe: Scribe
) -> None:
    g = await gateway(catalog, retry__jobs__max_retries="0")
    await make_service(g.client)
    provider.script(lambda step: step, lambda step: step, scribe.error(400, "No."))
    failed = await ended(g.client, await order(g.client, TEXT), "failed")

    resumed = await ask(g.client, "POST", f"/jobs/{failed['id']}/resume", 202)
    job = await ended(g.client, resumed["job_id"])

    assert failed["result"] == "\n\n".join(LINES[:2]).upper()
    assert (job["result"], job["from_job_id"]) == (WRITTEN, failed["id"])
    assert (await ask(g.client, "GET", f"/jobs/{failed['id']}"))["status"] == "failed"
    asked = [next(line for line in LINES if text.strip() == line) for text in _asked(provider)]
    assert asked == [LINES[0], LINES[1], LINES[2], LINES[2], LINES[3]]


async def test_a_job_is_run_again_with_another_flavor(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog)
    service = await make_service(g.client)
    other = await add_flavor(g.client, service, "other", model="other")
    job = await ran(g.client, TEXT, metadata={"n": 1})

    again = await ask(g.client, "POST", f"/jobs/{job['id']}/rerun", 202, json={"flavor_id": other["id"]})
    rerun = await ended(g.client, again["job_id"])

    assert (rerun["flavor_name"], rerun["from_job_id"], rerun["metadata"]) == ("other", job["id"], {"n": 1})
    assert {one["model"] for one in rerun["passes"]} == {"gpt-4o-mini"}
    assert provider.requests_total == 2 * len(LINES)


async def test_only_jobs_that_have_ended_are_deleted(gateway: Serve, catalog: str, provider: Player) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    provider.always(lambda step: step.held(lambda: False))
    job_id = await order(g.client, TEXT)

    live = await ask(g.client, "DELETE", f"/jobs/{job_id}", 409)
    await ask(g.client, "POST", f"/jobs/{job_id}/cancel")
    gone = await ask(g.client, "DELETE", f"/jobs/{job_id}")

    assert live["error_code"] == "JOB_NOT_ENDED"
    assert gone == {"id": job_id, "deleted": True}
    assert (await ask(g.client, "GET", f"/jobs/{job_id}", 404))["error_code"] == "NOT_FOUND"
    assert (await ask(g.client, "GET", "/jobs"))["total"] == 0


async def test_a_result_is_edited_compared_and_restored(gateway: Serve, catalog: str) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    job = await ran(g.client, TEXT)
    one = f"/jobs/{job['id']}"

    edited = await ask(g.client, "PATCH", f"{one}/result", json={"content": WRITTEN + "\n\nEdited."})
    diff = await ask(g.client, "GET", f"{one}/versions/1/diff/2")
    restored = await ask(g.client, "POST", f"{one}/versions/1/restore")
    versions = await ask(g.client, "GET", f"{one}/versions")
    now = await ask(g.client, "GET", one)

    assert edited["number"] == 2
    assert "+Edited." in msgspec.json.encode(diff).decode()
    assert restored["number"] == now["current_version"] == 3
    assert now["result"] == WRITTEN
    assert sorted(version["number"] for version in versions["items"]) == [1, 2, 3]
    await ask(g.client, "DELETE", f"{one}/versions/1", 409)


async def test_metrics_of_a_job_are_those_of_its_passes(gateway: Serve, catalog: str) -> None:
    g = await gateway(catalog)
    await make_service(g.client)
    job = await ran(g.client, TEXT)

    told = await ask(g.client, "GET", f"/jobs/{job['id']}/metrics")
    stats = await ask(g.client, "GET", "/services/notes/stats")

    assert [one["pass_number"] for one in told["passes"]] == [1, 2, 3, 4]
    for field in ("prompt_tokens", "completion_tokens"):
        assert told["totals"][field] == sum(one[field] for one in told["passes"])
    assert told["totals"]["cost"] == pytest.approx(sum(one["cost"] for one in told["passes"]))
    assert stats


_REFUSED: tuple[tuple[str, str, dict[str, Any], int, str | None], ...] = (
    ("GET", "/nothing", {}, 404, "NOT_FOUND"),
    ("GET", "/", {}, 404, "NOT_FOUND"),
    ("PUT", "/jobs", {}, 405, "METHOD_NOT_ALLOWED"),
    ("GET", "/services/notes/execute", {}, 405, "METHOD_NOT_ALLOWED"),
    ("GET", f"/jobs/{NOBODY}", {}, 404, "NOT_FOUND"),
    ("GET", "/jobs/..%2f..", {}, 404, "NOT_FOUND"),
    ("GET", f"/jobs/{NOBODY}/events", {}, 404, "NOT_FOUND"),
    ("POST", "/services/nothing/execute", {"json": {"input": "x"}}, 404, "NOT_FOUND"),
    ("POST", "/services/notes/execute", {"json": {"input": "x", "flavor_name": "no"}}, 404, "NOT_FOUND"),
    ("POST", "/services/notes/execute", {"json": {"input": ""}}, 400, "EMPTY_INPUT"),
    ("POST", "/services/notes/execute", {"json": {}}, 422, None),
    ("POST", "/services/notes/execute", {"json": {"input": "x", "priority": 10}}, 422, None),
    ("POST", "/services/notes/execute", {"json": {"input": "x", "speed": 1}}, 422, None),
    ("POST", "/services/notes/execute", {"content": b"{"}, 400, "INVALID_JSON"),
    ("POST", "/services/notes/execute", {"content": b"[]"}, 400, "INVALID_JSON"),
    ("POST", "/services/notes/run", {"json": {"input": "x"}}, 422, None),
    ("POST", "/services/notes/run", {"files": {"file": ("a.txt", b"")}}, 400, None),
    ("POST", "/services", {"json": {"name": ""}}, 422, None),
    ("GET", "/jobs?page=0", {}, 422, None),
    ("GET", "/jobs?pages=1", {}, 422, None),
    ("POST", "/services/notes/execute", {"json": {"input": "x" * 3000}}, 413, None),
)


async def test_every_refusal_has_the_same_shape(gateway: Serve, catalog: str) -> None:
    g = await gateway(catalog, max_body_bytes=2000)
    await make_service(g.client)

    for method, path, more, status, code in _REFUSED:
        answer = await g.client.request(method, f"/api/v1{path}", **more)

        _holds_error(answer, status)
        assert code in {None, answer.json()["error_code"]}
        assert status != 405 or answer.headers["allow"]
        assert status != 422 or all({"loc", "msg"} <= error.keys() for error in answer.json()["errors"])


def _holds_error(answer: httpx2.Response, status: int) -> None:
    error = answer.json()
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert isinstance(error["detail"], str)
    assert error["detail"]
    assert error["error_code"].isupper()
    assert "error" not in error


async def test_nobody_without_a_key_gets_in(gateway: Serve, catalog: str) -> None:
    g = await gateway(catalog, auth__mode="client", admin_key=ADMIN_KEY)

    for path in ("/jobs", "/services", f"/jobs/{NOBODY}", f"/jobs/{NOBODY}/events", "/nothing"):
        answer = await g.client.get(f"/api/v1{path}")
        _holds_error(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_a_document_that_does_not_fit_falls_back_and_says_so(gateway: Serve, catalog: str) -> None:
    g = await gateway(
        catalog.replace(
            "- name: other", "- name: other\n            context_length: 600\n            max_output_tokens: 100"
        )
    )
    service = await make_service(g.client)
    await add_flavor(g.client, service, "small", model="other", processing_mode="single_pass")
    strict = {"auto_fallback_to_iterative": False, "processing_mode": "single_pass"}
    await add_flavor(g.client, service, "strict", model="other", **strict)
    text = "\n\n".join(f"Sentence number {number} has some words." for number in range(150))

    planned = "/services/notes/validate-execution"
    plan = await ask(g.client, "POST", planned, json={"input": text, "flavor_name": "small"})
    no_plan = await ask(g.client, "POST", planned, json={"input": text, "flavor_name": "strict"})
    job = await ran(g.client, text, flavor_name="small")
    refused = await ask(g.client, "POST", "/services/notes/execute", 400, json={"input": text, "flavor_name": "strict"})

    assert plan["fallback_applied"] is job["fallback_applied"] is True
    assert (plan["mode"], plan["calls"]) == ("iterative", len(job["passes"]))
    assert job["original_flavor_name"] == "small"
    assert job["fallback_reason"].startswith("context_exceeded")
    assert refused["error_code"] == no_plan["error_code"] == "CONTEXT_EXCEEDED"
    assert not no_plan["valid"]
    assert job["result"] == text.upper()
