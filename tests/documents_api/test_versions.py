import pytest

from llmgateway.storage.jobs.rows import JobRow
from tests.documents_api.front import Front
from tests.jobs.shop import key


async def completed(front: Front) -> JobRow:
    job = await front.shop.submit(organization="acme")
    await front.shop.end(job)
    front.caller = key("acme", key_id="key_7")
    return job


async def test_an_edit_makes_a_new_version(front: Front) -> None:
    job = await completed(front)

    made = await front.ask("PATCH", f"/jobs/{job.id}/result", {"content": "# Minutes\n\nWe wait."})

    assert (made["number"], made["is_current"], made["created_by"]) == (2, True, "key_7")
    shown = await front.ask("GET", f"/jobs/{job.id}")
    assert (shown["result"], shown["current_version"]) == ("# Minutes\n\nWe wait.", 2)
    listed = await front.ask("GET", f"/jobs/{job.id}/versions")
    assert [(one["number"], one["is_current"], "content" in one) for one in listed["items"]] == [
        (2, True, False),
        (1, False, False),
    ]
    assert (await front.ask("GET", f"/jobs/{job.id}/versions/1"))["content"] == "# Minutes\n\nWe ship."


async def test_an_older_version_comes_back_as_a_new_one(front: Front) -> None:
    job = await completed(front)
    await front.ask("PATCH", f"/jobs/{job.id}/result", {"content": "worse"})

    made = await front.ask("POST", f"/jobs/{job.id}/versions/1/restore")

    assert (made["number"], made["content"]) == (3, "# Minutes\n\nWe ship.")
    assert (await front.ask("GET", f"/jobs/{job.id}"))["result"] == "# Minutes\n\nWe ship."


async def test_two_versions_are_compared_by_lines(front: Front) -> None:
    job = await completed(front)
    await front.ask("PATCH", f"/jobs/{job.id}/result", {"content": "# Minutes\n\nWe wait.\nAll of us."})

    difference = await front.ask("GET", f"/jobs/{job.id}/versions/1/diff/2")

    assert (difference["from"], difference["to"], difference["identical"]) == (1, 2, False)
    assert (difference["lines_added"], difference["lines_removed"]) == (2, 1)
    assert "-We ship.\n+We wait.\n+All of us." in difference["diff"]
    same = await front.ask("GET", f"/jobs/{job.id}/versions/2/diff/2")
    assert (same["identical"], same["diff"]) == (True, "")


async def test_very_long_versions_are_compared_as_a_whole(front: Front) -> None:
    job = await completed(front)
    for end in ("a", "b"):
        await front.ask("PATCH", f"/jobs/{job.id}/result", {"content": "x\n" * 12_000 + end})

    difference = await front.ask("GET", f"/jobs/{job.id}/versions/2/diff/3")

    assert (difference["lines_added"], difference["lines_removed"]) == (12_001, 12_001)
    assert (await front.ask("GET", f"/jobs/{job.id}/versions/3/diff/3"))["diff"] == ""


async def test_neither_the_first_nor_the_current_version_is_deleted(front: Front) -> None:
    job = await completed(front)
    for content in ("two", "three"):
        await front.ask("PATCH", f"/jobs/{job.id}/result", {"content": content})

    for number in (1, 3):
        error = await front.refused("DELETE", f"/jobs/{job.id}/versions/{number}", status=409)
        assert error["error_code"] == "VERSION_KEPT"
    deleted = await front.ask("DELETE", f"/jobs/{job.id}/versions/2")
    assert deleted == {"job_id": job.id, "number": 2, "deleted": True}
    for method, path in (("GET", "2"), ("DELETE", "2"), ("GET", "1/diff/2"), ("POST", "2/restore")):
        await front.refused(method, f"/jobs/{job.id}/versions/{path}", status=404)


@pytest.mark.parametrize("number", ["0", "x", "-1", "9" * 30])
async def test_a_version_has_a_number(front: Front, number: str) -> None:
    job = await completed(front)

    error = await front.refused("GET", f"/jobs/{job.id}/versions/{number}", status=422)

    assert error["errors"][0]["loc"] == ["path", "number"]


async def test_only_a_completed_jobs_result_is_edited(front: Front) -> None:
    job = await front.shop.submit()

    for method, path, body in (("PATCH", "result", {"content": "x"}), ("POST", "versions/1/restore", {})):
        error = await front.refused(method, f"/jobs/{job.id}/{path}", body, status=409)
        assert (error["error_code"], error["status"]) == ("JOB_NOT_COMPLETED", "queued")
    await front.refused("PATCH", f"/jobs/{job.id}/result", {"content": ""}, status=422)
