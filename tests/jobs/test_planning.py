from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from llmgateway.errors import DocumentError, MaxCostError, NotFoundError, PermissionDeniedError, RequestTooLargeError
from llmgateway.ids import new_uuid
from llmgateway.jobs.order import Order
from llmgateway.jobs.planning import Planned
from llmgateway.jobs.work import work_from
from tests.jobs.shop import LONG, Shop, catalog, key, opened
from tests.lines import Lines

UNKNOWN = """
providers: {main: {provider: openai, api_key: sk-a}}
models: [{name: large, deployments: [{provider: main, model: nobody-knows-this-one}]}]
"""


@pytest.fixture
async def shop(tmp_path: Path, lines: Lines) -> AsyncIterator[Shop]:
    async with opened(tmp_path, lines) as shop:
        yield shop


async def planned(shop: Shop, text: str = "Ada: hello.", **fields: Any) -> Planned:
    return await shop.desk.plan(Order(**{"service": "minutes", "text": text, **fields}))


async def refused(shop: Shop, text: str = LONG, **fields: Any) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        await planned(shop, text, **fields)
    return caught.value


async def test_a_short_document_is_one_call(shop: Shop) -> None:
    flavor = shop.flavor(shop.service(), "brief", processing_mode="single_pass")

    plan = await planned(shop, flavor="brief")

    assert (plan.flavor, plan.calls, len(plan.work.plan.batches), plan.warning) == (flavor, 1, 1, None)
    assert plan.work.plan.mode == "single_pass"
    assert (plan.records.fallback_applied, plan.records.fallback_reason) == (False, None)
    assert plan.seconds > 0


async def test_the_plan_is_the_one_that_the_run_takes(shop: Shop) -> None:
    shop.flavor(shop.service(), model="small", max_new_turns=7)

    plan = await planned(shop, LONG)
    job = await shop.submit(LONG)

    kept = await shop.jobs.work(job.id)
    assert kept is not None
    assert work_from(kept) == plan.work
    assert (job.input_tokens, job.progress.total, job.progress.total_batches) == (
        plan.work.plan.input_tokens,
        plan.calls,
        len(plan.work.plan.batches),
    )
    assert len(plan.work.plan.batches) > 1


async def test_what_does_not_fit_runs_with_the_flavor_that_is_named_for_it(shop: Shop) -> None:
    service = shop.service()
    other = shop.flavor(service, "long", model="large", processing_mode="single_pass", is_default=False)
    flavor = shop.flavor(service, "brief", model="small", processing_mode="single_pass", fallback_flavor_id=other.id)

    plan = await planned(shop, LONG)

    assert (plan.flavor.name, plan.work.recipe.model) == ("long", "large")
    assert plan.records.fallback_applied
    assert (plan.records.original_flavor_id, plan.records.original_flavor_name) == (flavor.id, "brief")
    assert "context_exceeded: The document has" in (plan.records.fallback_reason or "")
    assert not (await planned(shop, "Ada: hello.")).records.fallback_applied


async def test_what_does_not_fit_is_gone_through_in_parts_otherwise(shop: Shop) -> None:
    flavor = shop.flavor(shop.service(), "brief", model="small", processing_mode="single_pass")

    plan = await planned(shop, LONG)

    assert (plan.flavor, plan.work.plan.mode) == (flavor, "iterative")
    assert plan.work.recipe.settings.processing_mode == "iterative"
    assert plan.calls == len(plan.work.plan.batches) > 1
    assert (plan.records.fallback_applied, plan.records.original_flavor_name) == (True, "brief")


async def test_what_may_not_be_gone_through_in_parts_is_refused(shop: Shop) -> None:
    flavor = shop.flavor(shop.service(), model="small", processing_mode="single_pass", auto_fallback_to_iterative=False)

    error = await refused(shop)

    assert error.code == "context_exceeded"
    assert error.details is not None
    assert error.details["flavor_id"] == flavor.id
    assert error.details["context_length"] == 2000


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_flavor_for_what_does_not_fit_must_be_there(shop: Shop, is_there: bool) -> None:
    theirs = shop.flavor(shop.service("theirs", "other"), "theirs")
    fallback_id = theirs.id if is_there else new_uuid()
    shop.flavor(shop.service(), model="small", processing_mode="single_pass", fallback_flavor_id=fallback_id)

    assert (await refused(shop)).code == "fallback_flavor_not_found"


async def test_a_flavor_for_what_does_not_fit_must_be_switched_on(shop: Shop) -> None:
    service = shop.service()
    other = shop.flavor(service, "long", is_active=False, is_default=False)
    shop.flavor(service, model="small", processing_mode="single_pass", fallback_flavor_id=other.id)

    assert (await refused(shop)).code == "fallback_flavor_inactive"


async def test_a_flavor_for_what_does_not_fit_must_fit_itself(shop: Shop) -> None:
    service = shop.service()
    other = shop.flavor(service, "other", model="small", processing_mode="single_pass", is_default=False)
    shop.flavor(service, model="small", processing_mode="single_pass", fallback_flavor_id=other.id)

    error = await refused(shop)

    assert error.code == "fallback_context_exceeded"
    assert error.details is not None
    assert error.details["fallback_flavor_id"] == other.id


async def test_a_prompt_that_is_wrong_is_no_document_that_is_too_long(shop: Shop) -> None:
    service = shop.service()
    other = shop.flavor(service, "other", is_default=False, user_prompt="{} {} {}")
    shop.flavor(service, model="small", processing_mode="single_pass", fallback_flavor_id=other.id)

    assert (await refused(shop)).code == "prompt_invalid"
    assert (await refused(shop, flavor="other")).code == "prompt_invalid"


async def test_a_service_that_is_off_runs_nothing(shop: Shop) -> None:
    shop.flavor(shop.service(is_active=False))

    assert (await refused(shop)).code == "service_inactive"


async def test_a_flavor_that_is_off_runs_nothing(shop: Shop) -> None:
    shop.flavor(shop.service(), is_active=False)

    assert (await refused(shop)).code == "flavor_inactive"


async def test_a_service_without_flavors_says_so(shop: Shop) -> None:
    shop.service()

    assert (await refused(shop)).code == "no_default_flavor"


async def test_a_flavor_that_is_not_there_is_told_with_those_that_are(shop: Shop) -> None:
    shop.flavor(shop.service(), "brief")

    with pytest.raises(NotFoundError, match=r"no flavor `long`; it has `brief`"):
        await planned(shop, flavor="long")


async def test_pitfall_109_another_organizations_service_looks_like_none(shop: Shop) -> None:
    row = shop.service("theirs", "other")
    shop.flavor(row)
    texts = set()
    for name in (row.id, "theirs", new_uuid()):
        with pytest.raises(NotFoundError) as caught:
            await planned(shop, service=name, organization="acme")
        texts.add(caught.value.message.replace(name, "…"))

    assert len(texts) == 1
    assert (await planned(shop, service=row.id, everyone=True)).service.id == row.id
    assert (await planned(shop, service="theirs", organization="other")).service.id == row.id


async def test_only_who_may_use_it_runs_it(shop: Shop) -> None:
    shop.flavor(shop.service())

    with pytest.raises(PermissionDeniedError):
        await planned(shop, caller=key(models=("small",)))
    assert (await planned(shop, caller=key(models=("service/minutes",)))).calls == 1


async def test_what_runs_instead_needs_leave_as_well(shop: Shop) -> None:
    service, premium = shop.service(organization_id="acme"), shop.service("premium")
    other = shop.flavor(premium, "long", model="large", processing_mode="single_pass")
    shop.flavor(service, "brief", model="small", processing_mode="single_pass", fallback_flavor_id=other.id)

    with pytest.raises(PermissionDeniedError) as caught:
        await planned(shop, LONG, organization="acme", caller=key("acme", models=("small",)))

    assert caught.value.code == "model_not_allowed"
    for models in (("service/minutes",), ("small", "large")):
        plan = await planned(shop, LONG, organization="acme", caller=key("acme", models=models))
        assert plan.work.recipe.model == "large"


async def test_nothing_and_too_much_are_refused(shop: Shop) -> None:
    shop.flavor(shop.service())

    assert (await refused(shop, " \n\t")).code == "empty_input"
    with pytest.raises(RequestTooLargeError, match="5,000,001 characters"):
        await planned(shop, "a" * 5_000_001)


async def test_costs_are_known_before(shop: Shop) -> None:
    shop.flavor(shop.service(), model="large", processing_mode="map_reduce", max_new_turns=5)

    plan = await planned(shop, LONG)

    assert plan.cost is not None
    batches, tokens = len(plan.work.plan.batches), plan.work.plan.input_tokens
    assert plan.calls > batches
    assert tokens * 1e-5 < plan.cost.low_usd < plan.cost.high_usd < batches * 4000 * 1e-4


async def test_costs_without_prices_are_unknown_and_a_guessed_window_is_told(shop: Shop) -> None:
    shop.flavor(shop.service())
    shop.catalog = catalog(UNKNOWN)

    plan = await planned(shop)

    assert plan.cost is None
    assert plan.work.recipe.window_estimated
    assert "8,192 tokens are assumed" in (plan.warning or "")


async def test_a_document_that_only_just_fits_is_warned_of(shop: Shop) -> None:
    shop.flavor(shop.service(), model="small", processing_mode="single_pass")

    assert "of the model's window of 2,000 tokens" in ((await planned(shop, LONG[:3400])).warning or "")
    assert (await planned(shop, LONG[:600])).warning is None


async def test_a_demo_is_told(shop: Shop) -> None:
    shop.flavor(shop.service(), model="auto")
    shop.catalog = catalog(None)

    plan = await planned(shop)

    assert plan.work.recipe.model == "demo/summary"
    assert "demo model" in (plan.warning or "")
    assert plan.cost is not None
    assert plan.cost.high_usd == 0


async def test_an_order_may_allow_less_than_the_flavor(shop: Shop) -> None:
    shop.flavor(shop.service(), max_cost_usd=0.5)

    for allowed, most in ((None, 0.5), (0.2, 0.2), (9.0, 0.5)):
        plan = await planned(shop, LONG, max_cost_usd=allowed)
        assert plan.work.recipe.settings.max_cost_usd == most


async def test_what_costs_too_much_in_any_case_is_refused_before(shop: Shop) -> None:
    shop.flavor(shop.service())

    with pytest.raises(MaxCostError, match="at least") as caught:
        await planned(shop, LONG, max_cost_usd=0.001)

    assert caught.value.status == 402
