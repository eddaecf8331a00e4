from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import structs

from llmgateway.caller import ANYONE, Caller
from llmgateway.documents.recipe import Extras
from llmgateway.errors import ConflictError, LedgerAwayError, NotFoundError, PermissionDeniedError
from llmgateway.ids import new_uuid
from llmgateway.jobs.desk import priority_of
from llmgateway.jobs.order import Order
from llmgateway.jobs.work import work_from
from llmgateway.storage.jobs.rows import Wanted
from tests.jobs.shop import LONG, Shop, done, key, opened
from tests.lines import Lines

ALL = Wanted(everyone=True)
ASKED = Order(service="", text="")


@pytest.fixture
async def shop(tmp_path: Path, lines: Lines) -> AsyncIterator[Shop]:
    async with opened(tmp_path, lines) as shop:
        shop.flavor(shop.service(), default_ttl_seconds=60, priority=4)
        yield shop


async def test_a_job_is_written_down_and_told_of(shop: Shop) -> None:
    job = await shop.submit(
        "Ada: hello.",
        caller=key("acme", provider_key="sk-canary"),
        organization="acme",
        file_name="a.txt",
        metadata={"a": 1},
        webhook_url="https://hooks.example/x",
        request_id="req_1",
        trace="00-" + "1" * 32 + "-" + "2" * 16 + "-01",
    )

    assert (job.status, job.service_route, job.flavor_name, job.priority) == ("queued", "minutes", "iterative", 4)
    assert (job.organization_id, job.input_file_name, job.metadata, job.ttl_s) == ("acme", "a.txt", {"a": 1}, 60)
    assert (job.preview, job.input_chars, job.webhook_url) == ("Ada: hello.", 11, "https://hooks.example/x")
    assert (job.origin.request_id, job.origin.caller.key_id) == ("req_1", "key_1")
    assert job.origin.caller.provider_key is None
    assert (shop.heard, shop.rung, shop.told) == ([job.id], ["jobs"], [("submitted", job.id)])


async def test_the_same_order_is_made_once(shop: Shop) -> None:
    order = Order(
        service="minutes",
        text="Ada: hello.",
        caller=key(),
        idempotency_key="/p once",
        body_digest="1",
        organization="a",
    )

    first, was_new = await shop.desk.submit(order)
    again, is_new = await shop.desk.submit(order)

    assert (again.id, was_new, is_new) == (first.id, True, False)
    assert shop.heard == [first.id]
    other, is_other = await shop.desk.submit(structs.replace(order, caller=key(key_id="key_2")))
    assert (other.id != first.id, is_other) == (True, True)
    elsewhere, is_elsewhere = await shop.desk.submit(structs.replace(order, organization="b"))
    assert (elsewhere.id != first.id, is_elsewhere) == (True, True)


async def test_a_key_stands_for_one_body(shop: Shop) -> None:
    order = Order(service="minutes", text="Ada: hello.", idempotency_key="/p once", body_digest="1")
    await shop.desk.submit(order)

    with pytest.raises(ConflictError) as caught:
        await shop.desk.submit(structs.replace(order, body_digest="2"))

    assert caught.value.code == "idempotency_conflict"


async def test_who_repeats_a_call_joins_the_job_that_lives(shop: Shop) -> None:
    order = Order(service="minutes", text="Ada: hello.", joins="digest")
    first, _ = await shop.desk.submit(order)

    assert (await shop.desk.submit(order))[0].id == first.id
    await shop.end(first)
    assert (await shop.desk.submit(order))[0].id != first.id


async def test_a_webhook_that_is_refused_makes_no_job(shop: Shop) -> None:
    shop.refused_hooks.add("http://10.0.0.1/")

    with pytest.raises(ValueError, match=r"10\.0\.0\.1"):
        await shop.submit(webhook_url="http://10.0.0.1/")

    assert shop.heard == []


@pytest.mark.parametrize(
    ("asked", "usual", "caller", "expected"),
    [
        (None, 5, key(), 5),
        (None, 0, key(), 0),
        (9, 5, key(), 9),
        (3, 5, key(), 3),
        (1, 1, key(), 1),
        (2, 1, key(), 2),
        (1, 5, key(most_urgent=1), 1),
        (0, 5, ANYONE, 0),
        (0, 5, Caller(kind="admin"), 0),
    ],
)
def test_a_job_is_as_urgent_as_its_orderer_may_ask(
    asked: int | None, usual: int, caller: Caller, expected: int
) -> None:
    assert priority_of(asked, usual, caller) == expected


@pytest.mark.parametrize(("asked", "usual", "caller"), [(2, 5, key()), (0, 5, key(most_urgent=1)), (0, 1, key())])
def test_what_is_too_urgent_is_refused_with_what_is_not(asked: int, usual: int, caller: Caller) -> None:
    with pytest.raises(PermissionDeniedError, match="more urgent than") as caught:
        priority_of(asked, usual, caller)

    assert caught.value.code == "priority_not_allowed"


async def test_a_rerun_is_the_same_document_with_the_services_as_they_are_now(shop: Shop) -> None:
    job = await shop.submit(
        organization="acme", file_name="a.txt", metadata={"a": 1}, extras=Extras(language="French"), allow_new_tags=True
    )
    await shop.end(job)
    (flavor,) = shop.rows["flavor"]
    shop.change("flavor", flavor, structs.replace(flavor, settings=structs.replace(flavor.settings, model="small")))

    again, is_new = await shop.desk.rerun(job.id, ALL, structs.replace(ASKED, request_id="req_2"))

    assert (is_new, again.id != job.id, again.status) == (True, True, "queued")
    assert (again.origin.from_job, again.origin.request_id, again.organization_id) == (job.id, "req_2", "acme")
    assert (again.input_file_name, again.metadata) == ("a.txt", {"a": 1})
    kept = await shop.jobs.work(again.id)
    assert kept is not None
    work = work_from(kept)
    assert (work.extras.language, work.allow_new_tags, work.recipe.model) == ("French", True, "small")
    assert await shop.jobs.text(again.id) == "Ada: hello."
    assert await shop.jobs.passes(again.id) == []


async def test_a_rerun_may_take_another_flavor(shop: Shop) -> None:
    shop.flavor(shop.rows["service"][0], "brief", is_default=False)
    job = await shop.submit()

    again, _ = await shop.desk.rerun(job.id, ALL, structs.replace(ASKED, flavor="brief"))

    assert again.flavor_name == "brief"


async def test_a_failed_job_is_resumed_with_what_it_has_paid_for(shop: Shop) -> None:
    job = await shop.submit(organization="acme", webhook_url="https://hooks.example/x")
    await shop.end(job, "failed", passes=[done()])
    before = await shop.jobs.work(job.id)

    resumed, is_new = await shop.desk.resume(job.id, ALL, structs.replace(ASKED, caller=key("acme")))

    assert (is_new, resumed.status, resumed.origin.from_job) == (True, "queued", job.id)
    assert (resumed.organization_id, resumed.webhook_url, resumed.ttl_s) == ("acme", job.webhook_url, 60)
    assert await shop.jobs.work(resumed.id) == before
    assert [one.step for one in await shop.jobs.passes(resumed.id)] == ["batch:0-11"]
    assert shop.heard == [job.id, resumed.id]
    old = await shop.jobs.job(job.id, ALL)
    assert old is not None
    assert old.status == "failed"


async def test_a_job_that_ran_another_services_flavor_is_resumed_as_well(shop: Shop) -> None:
    other = shop.flavor(shop.service("long-texts"), "patient")
    shop.flavor(
        shop.service("short"), "brief", model="small", processing_mode="single_pass", fallback_flavor_id=other.id
    )
    job = await shop.submit(LONG, "short")
    await shop.end(job, "failed", passes=[done()])

    resumed, is_new = await shop.desk.resume(job.id, ALL, ASKED)

    assert job.flavor_id == other.id
    assert (is_new, resumed.flavor_id) == (True, other.id)


async def test_an_answer_that_was_no_json_is_not_what_the_resumed_job_begins_with(shop: Shop) -> None:
    job = await shop.submit()
    kept = [done(), structs.replace(done(), step="repair:whole.0:abc", number=2)]
    await shop.end(job, "failed", passes=kept, code="invalid_output")

    resumed, _ = await shop.desk.resume(job.id, ALL, ASKED)

    assert [one.step for one in await shop.jobs.passes(resumed.id)] == ["batch:0-11"]


@pytest.mark.parametrize("status", ["completed", "cancelled"])
async def test_only_a_failed_job_is_resumed(shop: Shop, status: str) -> None:
    job = await shop.submit()
    if status == "cancelled":
        await shop.desk.cancel(job.id, ALL)
    else:
        await shop.end(job)

    with pytest.raises(ConflictError, match=f"is {status}") as caught:
        await shop.desk.resume(job.id, ALL, ASKED)

    assert caught.value.code == "job_not_failed"


async def test_who_may_no_longer_run_it_does_not_resume_it(shop: Shop) -> None:
    job = await shop.submit()
    await shop.end(job, "failed")

    with pytest.raises(PermissionDeniedError):
        await shop.desk.resume(job.id, ALL, structs.replace(ASKED, caller=key(models=("small",))))


async def test_a_job_is_cancelled_once_and_whoever_runs_it_is_told(shop: Shop) -> None:
    job = await shop.submit()
    shop.rung.clear()

    cancelled = await shop.desk.cancel(job.id, ALL)
    again = await shop.desk.cancel(job.id, ALL)

    assert (cancelled.status, again.completed_at) == ("cancelled", cancelled.completed_at)
    assert set(shop.rung) == {"jobs"}


async def test_pitfall_109_another_organizations_job_looks_like_none(shop: Shop) -> None:
    job = await shop.submit(organization="acme")
    other, texts = Wanted(organization_id="other"), set()

    for job_id in (job.id, new_uuid()):
        for ask in (
            shop.desk.cancel(job_id, other),
            shop.desk.rerun(job_id, other, ASKED),
            shop.desk.resume(job_id, other, ASKED),
        ):
            with pytest.raises(NotFoundError) as caught:
                await ask
            texts.add(caught.value.message.replace(job_id, "…"))

    assert len(texts) == 1
    assert (await shop.desk.cancel(job.id, Wanted(organization_id="acme"))).status == "cancelled"


async def test_a_database_that_is_away_is_told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_: str) -> list[object]:
        raise OSError

    shop.services.everything_changed()
    monkeypatch.setattr(shop, "every", away)

    with pytest.raises(LedgerAwayError):
        await shop.submit()


async def test_who_may_use_what_the_flavor_names_now_does_not_resume_what_it_named_then(shop: Shop) -> None:
    job = await shop.submit(organization="acme")
    await shop.end(job, "failed")
    [flavor] = shop.rows["flavor"]
    shop.change("flavor", flavor, structs.replace(flavor, settings=structs.replace(flavor.settings, model="small")))

    with pytest.raises(PermissionDeniedError):
        await shop.desk.resume(job.id, ALL, structs.replace(ASKED, caller=key("acme", models=("small",))))
    assert (await shop.desk.resume(job.id, ALL, structs.replace(ASKED, caller=key("acme", models=("large",)))))[1]


async def test_a_providers_own_key_orders_nothing(shop: Shop) -> None:
    caller = Caller(kind="provider", provider="openai", provider_key="sk-proj-canary")

    with pytest.raises(PermissionDeniedError, match="model calls only"):
        await shop.submit(caller=caller)


async def test_the_same_key_gets_its_job_when_the_service_is_gone_meanwhile(shop: Shop) -> None:
    order = Order(service="minutes", text="Ada: hello.", idempotency_key="/p once", body_digest="1")
    first, _ = await shop.desk.submit(order)
    shop.rows["service"].clear()
    shop.services.everything_changed()

    again, is_new = await shop.desk.submit(order)

    assert (again.id, is_new) == (first.id, False)
    with pytest.raises(NotFoundError):
        await shop.desk.submit(Order(service="minutes", text="Ada: hello."))
