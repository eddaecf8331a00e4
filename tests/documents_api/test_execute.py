import json
from typing import Any

import pytest

from llmgateway.caller import Caller
from llmgateway.ids import new_uuid
from llmgateway.jobs.work import work_from
from llmgateway.storage.jobs.rows import Wanted
from tests.documents_api.front import Front
from tests.jobs.shop import LONG, key

EXECUTE, RUN, VALIDATE = (f"/services/minutes/{one}" for one in ("execute", "run", "validate-execution"))


async def test_a_text_becomes_a_job(front: Front) -> None:
    body = {"input": "Ada: hello.\r\nBen: yes.", "flavor_name": "brief", "metadata": {"a": [1]}, "priority": 7}
    answer = await front.send("POST", EXECUTE, body)

    taken = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/api/v1/jobs/{taken['job_id']}"
    assert (taken["status"], taken["service_name"], taken["flavor_name"]) == ("queued", "Minutes", "brief")
    assert (taken["fallback_applied"], taken["priority"]) == (False, 7)
    assert taken["context_available"] > taken["input_tokens"] > 0
    assert await front.shop.jobs.text(taken["job_id"]) == "Ada: hello.\nBen: yes."


async def test_a_service_is_named_by_its_id_too_and_a_flavor_by_its_own(front: Front) -> None:
    service, flavor = front.shop.rows["service"][0], front.shop.rows["flavor"][1]

    taken = await front.ask("POST", f"/services/{service.id}/execute", {"input": "Hi.", "flavor_id": flavor.id}, 202)

    assert (taken["service_id"], taken["flavor_id"]) == (service.id, flavor.id)


async def test_a_document_that_does_not_fit_is_told_with_what_runs_instead(front: Front) -> None:
    taken = await front.ask("POST", EXECUTE, {"input": LONG, "flavor_name": "brief"}, 202)

    assert taken["fallback_applied"]
    assert taken["original_flavor_name"] == "brief"
    assert taken["fallback_reason"].startswith("context_exceeded")


async def test_pitfall_103_the_same_key_and_body_make_one_job(front: Front) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await front.send("POST", EXECUTE, {"input": "Hi."}, headers=headers)
    again = await front.send("POST", EXECUTE, {"input": "Hi."}, headers=headers)

    assert again.json() == first.json()
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    error = await front.refused("POST", EXECUTE, {"input": "Ho."}, status=409, headers=headers)
    assert error["error_code"] == "IDEMPOTENCY_CONFLICT"
    elsewhere = await front.ask("POST", RUN, status=202, headers=headers, files={"file": ("a.txt", b"Hi.")})
    assert elsewhere["job_id"] != first.json()["job_id"]


async def test_a_file_sent_again_is_the_same_although_its_form_is_not(front: Front) -> None:
    headers = {"Idempotency-Key": "once"}
    sent = [
        await front.ask(
            "POST", RUN, status=202, headers=headers, files={"file": ("a.txt", b"Hi.")}, data={"priority": "6"}
        )
        for _ in range(2)
    ]

    assert sent[0] == sent[1]
    files = {"file": ("a.txt", b"Ho.")}
    await front.refused("POST", RUN, status=409, headers=headers, files=files, data={"priority": "6"})


async def test_a_file_becomes_a_job(front: Front) -> None:
    fields = {
        "flavor_name": "brief",
        "priority": "8",
        "metadata": json.dumps({"a": 1}),
        "context": json.dumps({"tags": [{"name": "money", "description": "costs"}], "allow_new_tags": True}),
        "webhook_url": "https://hooks.example/x",
        "language": "French",
    }
    taken = await front.ask("POST", RUN, status=202, files={"file": ("/home/ada/notes.txt", b"Ada: hi.")}, data=fields)

    job = await front.ask("GET", f"/jobs/{taken['job_id']}")
    assert (job["input_file_name"], job["priority"], job["metadata"]) == ("notes.txt", 8, {"a": 1})
    assert (job["flavor_name"], job["webhook_url"]) == ("brief", "https://hooks.example/x")
    assert taken["warnings"] == ["The tags are kept with the job; results are not categorized yet."]
    kept = await front.shop.jobs.work(taken["job_id"])
    assert kept is not None
    work = work_from(kept)
    assert (work.tags[0]["name"], work.allow_new_tags, work.extras.language) == ("money", True, "French")


@pytest.mark.parametrize(
    ("form", "where"),
    [
        ({"data": {"flavor_name": "brief"}, "files": {"other": ("a.txt", b"Hi.")}}, ["body", "file"]),
        ({"data": {"priority": "urgent"}, "files": {"file": ("a.txt", b"Hi.")}}, ["body", "priority"]),
        ({"data": {"metadata": "{"}, "files": {"file": ("a.txt", b"Hi.")}}, ["body", "metadata"]),
        ({"data": {"flavour": "brief"}, "files": {"file": ("a.txt", b"Hi.")}}, ["body", "flavour"]),
        ({"content": b"Hi.", "headers": {"content-type": "text/plain"}}, ["header", "Content-Type"]),
        ({"content": b"Hi.", "headers": {"content-type": "multipart/form-data"}}, ["body"]),
        ({"content": b"Hi.", "headers": {"content-type": "multipart/form-data; boundary=x"}}, ["body"]),
    ],
)
async def test_what_is_wrong_in_a_form_is_named(front: Front, form: dict[str, Any], where: list[str]) -> None:
    error = await front.refused("POST", RUN, status=422, **form)

    assert error["errors"][0]["loc"] == where
    assert error["error_code"] == "VALIDATION_ERROR"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, ["body", "input"]),
        ({"input": 5}, ["body", "input"]),
        ({"input": "Hi.", "priority": 10}, ["body", "priority"]),
        ({"input": "Hi.", "priority": "1"}, ["body", "priority"]),
        ({"input": "Hi.", "flavour": "brief"}, ["body", "flavour"]),
        ({"input": "Hi.", "context": {"tags": [{"description": "x"}]}}, ["body", "context", "tags", 0, "name"]),
        ({"input": "Hi.", "metadata": {"a": "x" * 20_000}}, ["body", "metadata"]),
        ({"input": "Hi.", "organization_id": "a b"}, ["body", "organization_id"]),
    ],
)
async def test_what_is_wrong_in_a_body_is_named(front: Front, body: dict[str, Any], where: list[object]) -> None:
    error = await front.refused("POST", EXECUTE, body, status=422)

    assert error["errors"][0]["loc"] == where


@pytest.mark.parametrize("content", [b"{", b"[]", b'"x"'])
async def test_what_is_no_json_is_refused(front: Front, content: bytes) -> None:
    error = await front.refused("POST", EXECUTE, status=400, content=content)

    assert error["error_code"] == "INVALID_JSON"


@pytest.mark.parametrize("text", ["", " \n"])
async def test_an_empty_document_is_refused(front: Front, text: str) -> None:
    assert (await front.refused("POST", EXECUTE, {"input": text}, status=400))["error_code"] == "EMPTY_INPUT"


async def test_a_file_of_another_kind_is_refused(front: Front) -> None:
    files = {"file": ("a.txt", b"\x89PNG\r\n\x1a\n" + bytes(100))}

    assert (await front.refused("POST", RUN, status=400, files=files))["error_code"] == "UNSUPPORTED_FILE"


async def test_a_service_or_flavor_that_is_not_there_is_a_404(front: Front) -> None:
    for path, body in (
        (f"/services/{new_uuid()}/execute", {"input": "Hi."}),
        ("/services/other/execute", {"input": "Hi."}),
        (EXECUTE, {"input": "Hi.", "flavor_name": "none"}),
        (EXECUTE, {"input": "Hi.", "flavor_id": new_uuid()}),
    ):
        assert (await front.refused("POST", path, body, status=404))["error_code"] == "NOT_FOUND"


@pytest.mark.parametrize("caller", [Caller(), Caller(kind="admin", key_id="admin")])
async def test_who_may_act_for_any_organization_names_it(front: Front, caller: Caller) -> None:
    front.caller = caller
    taken = await front.ask("POST", EXECUTE, {"input": "Hi.", "organization_id": "acme"}, 202)

    found = await front.shop.jobs.job(taken["job_id"], Wanted(organization_id="acme"))
    assert found is not None
    body = {"input": "Hi.", "organization_id": "acme"}
    error = await front.refused("POST", EXECUTE, body, status=422, headers={"X-Organization-ID": "other"})
    assert "X-Organization-ID" in error["detail"]


async def test_everybody_else_has_the_organization_of_the_key(front: Front) -> None:
    front.caller = key("acme")
    taken = await front.ask("POST", EXECUTE, {"input": "Hi.", "organization_id": "acme"}, 202)

    assert (await front.ask("GET", f"/jobs/{taken['job_id']}"))["organization_id"] == "acme"
    await front.refused("POST", EXECUTE, {"input": "Hi.", "organization_id": "other"}, status=404)
    front.caller = key(None)
    await front.refused("POST", EXECUTE, {"input": "Hi.", "organization_id": "acme"}, status=404)


async def test_a_key_is_held_to_its_models_and_its_priority(front: Front) -> None:
    front.caller = key(models=("gpt-*",))
    assert (await front.refused("POST", EXECUTE, {"input": "Hi."}, status=403))["error_code"] == "MODEL_NOT_ALLOWED"
    front.caller = key(models=("service/*",))
    error = await front.refused("POST", EXECUTE, {"input": "Hi.", "priority": 1}, status=403)
    assert (error["error_code"], error["most_urgent"]) == ("PRIORITY_NOT_ALLOWED", 3)
    await front.ask("POST", EXECUTE, {"input": "Hi.", "priority": 3}, 202)


async def test_the_plan_is_told_without_making_a_job(front: Front) -> None:
    plan = await front.ask("POST", VALIDATE, {"input": LONG, "flavor_name": "brief"})

    assert (plan["valid"], plan["mode"], plan["flavor"]["model"]) == (True, "iterative", "small")
    assert (plan["fallback_applied"], plan["original_flavor_name"]) == (True, "brief")
    assert (plan["context_length"], plan["max_generation"]) == (2000, 500)
    assert plan["calls"] == plan["batches"] > 1
    assert 0 < plan["estimated_cost"]["low"] < plan["estimated_cost"]["high"]
    taken = await front.ask("POST", EXECUTE, {"input": LONG, "flavor_name": "brief"}, 202)
    assert (taken["input_tokens"], taken["context_available"]) == (plan["input_tokens"], plan["context_available"])
    assert (await front.ask("GET", "/jobs"))["total"] == 1


async def test_a_file_is_planned_as_well(front: Front) -> None:
    plan = await front.ask("POST", VALIDATE, files={"file": ("a.txt", b"Ada: hello.")})

    assert (plan["valid"], plan["batches"], plan["warning"]) == (True, 1, None)


async def test_a_plan_that_is_refused_says_why(front: Front) -> None:
    service = front.shop.service("short")
    front.shop.flavor(service, model="small", processing_mode="single_pass", auto_fallback_to_iterative=False)

    plan = await front.ask("POST", "/services/short/validate-execution", {"input": LONG})

    assert (plan["valid"], plan["error_code"], plan["calls"]) == (False, "CONTEXT_EXCEEDED", None)
    assert plan["context_length"] == 2000
    error = await front.refused("POST", "/services/short/execute", {"input": LONG}, status=400)
    assert (error["error_code"], error["detail"]) == (plan["error_code"], plan["warning"])
