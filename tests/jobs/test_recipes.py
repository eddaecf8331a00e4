from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llmgateway.caller import ANYONE, Caller
from llmgateway.errors import DocumentError, PermissionDeniedError
from llmgateway.ids import new_uuid
from llmgateway.jobs.recipes import Recipes, check_caller
from llmgateway.jobs.services import Service
from llmgateway.storage.documents.rows import FlavorRow, ServiceRow
from tests.jobs.shop import Shop, key, opened
from tests.lines import Lines


@pytest.fixture
async def shop(tmp_path: Path, lines: Lines) -> AsyncIterator[Shop]:
    async with opened(tmp_path, lines) as shop:
        yield shop


def recipes(shop: Shop) -> Recipes:
    return Recipes(shop.services, lambda: shop.catalog)


async def test_prompts_that_are_named_become_texts(shop: Shop) -> None:
    service = shop.service(organization_id="acme")
    of_all, own = shop.prompt("You are brief."), shop.prompt("Sum up {{document}}", "acme")
    flavor = shop.flavor(service, system_prompt=of_all.id, user_prompt=own.id, reduce_prompt="As it is.")

    recipe = (await recipes(shop).of(flavor, "acme")).recipe

    assert recipe.settings.system_prompt == "You are brief."
    assert recipe.settings.user_prompt == "Sum up {{document}}"
    assert recipe.settings.reduce_prompt == "As it is."
    assert (recipe.model, recipe.context_length, recipe.max_generation) == ("large", 100_000, 4000)
    assert (recipe.input_usd, recipe.output_usd) == (1e-5, 2e-5)


@pytest.mark.parametrize("of", ["other", None])
async def test_a_prompt_of_others_is_none(shop: Shop, of: str | None) -> None:
    prompt_id = shop.prompt("Theirs", of).id if of else new_uuid()
    flavor = shop.flavor(shop.service(organization_id="acme"), system_prompt=prompt_id)

    with pytest.raises(DocumentError, match=prompt_id) as caught:
        await recipes(shop).of(flavor, "acme")

    assert caught.value.code == "prompt_not_found"


async def test_a_flavors_own_tokenizer_counts(shop: Shop) -> None:
    flavor = shop.flavor(shop.service(), tokenizer_override="cl100k_base")

    assert (await recipes(shop).of(flavor, None)).recipe.tokenizer == "cl100k_base"


async def chain(shop: Shop, service: ServiceRow, flavor: FlavorRow, **caller: object) -> list[str]:
    after = await recipes(shop).after(Service(service), flavor, key(**caller) if caller else ANYONE)  # type: ignore[arg-type]
    return [recipe.flavor_name for recipe in after]


async def test_those_that_go_on_are_found_in_their_order_and_cycles_are_cut(shop: Shop) -> None:
    service = shop.service()
    ids = [new_uuid() for _ in range(3)]
    flavors = [
        shop.flavor(service, name, id=ids[place], failover_flavor_id=ids[(place + 1) % 3])
        for place, name in enumerate(("first", "second", "third"))
    ]

    assert await chain(shop, service, flavors[0]) == ["second", "third"]


async def test_no_more_go_on_than_the_flavor_says(shop: Shop) -> None:
    service = shop.service()
    third = shop.flavor(service, "third")
    second = shop.flavor(service, "second", failover_flavor_id=third.id)
    first = shop.flavor(service, "first", failover_flavor_id=second.id, max_failover_depth=1)

    assert await chain(shop, service, first) == ["second"]


async def test_those_that_cannot_run_are_passed_over(shop: Shop) -> None:
    service, foreign = shop.service(), shop.service("theirs", "other")
    theirs = shop.flavor(foreign, "theirs")
    fourth = shop.flavor(service, "fourth", failover_flavor_id=theirs.id)
    third = shop.flavor(service, "third", model="gone", failover_flavor_id=fourth.id)
    second = shop.flavor(service, "second", is_active=False, failover_flavor_id=third.id)
    first = shop.flavor(service, "first", failover_flavor_id=second.id)

    assert await chain(shop, service, first) == ["fourth"]


async def test_a_key_does_not_get_models_by_failover_that_it_may_not_use(shop: Shop) -> None:
    service = shop.service()
    second = shop.flavor(service, "second", model="large")
    first = shop.flavor(service, "first", model="small", failover_flavor_id=second.id)

    assert await chain(shop, service, first, models=("small",)) == []
    assert await chain(shop, service, first, models=("service/*",)) == ["second"]


@pytest.mark.parametrize(
    "models", [None, ("service/minutes",), ("service/*",), ("service/minutes:brief",), ("gpt-*",), ("*",)]
)
async def test_a_service_is_run_by_its_name_or_by_its_model(shop: Shop, models: tuple[str, ...] | None) -> None:
    service = shop.service()
    flavor = shop.flavor(service, "brief", model="large")

    check_caller(key(models=models), Service(service), flavor, "gpt-4o")


async def test_a_key_that_names_another_service_gets_no_model_of_it_by_failover(shop: Shop) -> None:
    service, premium = shop.service(), shop.service("premium")
    second = shop.flavor(premium, "second", model="large")
    first = shop.flavor(service, "first", model="small", failover_flavor_id=second.id)

    assert await chain(shop, service, first, models=("small", "service/premium")) == []
    assert await chain(shop, service, first, models=("service/*",)) == ["second"]


async def test_a_providers_own_key_runs_no_service(shop: Shop) -> None:
    service = shop.service()
    flavor = shop.flavor(service)

    with pytest.raises(PermissionDeniedError, match="model calls only"):
        check_caller(Caller(kind="provider", provider="openai"), Service(service), flavor, "large")


@pytest.mark.parametrize("models", [("small",), ("auto",), ("service/other",), ("service/minutes:long",)])
async def test_who_may_use_neither_is_told_what_to_ask_for(shop: Shop, models: tuple[str, ...]) -> None:
    service = shop.service()
    flavor = shop.flavor(service, "brief", model="auto")

    with pytest.raises(PermissionDeniedError, match="add `service/minutes`") as caught:
        check_caller(key(models=models), Service(service), flavor, "large")

    assert caught.value.code == "model_not_allowed"


async def test_a_providers_own_key_runs_no_service_with_keys_of_ours(shop: Shop) -> None:
    service = shop.service()
    flavor = shop.flavor(service, "brief", model="large")

    with pytest.raises(PermissionDeniedError, match="provider's own key"):
        check_caller(Caller(kind="provider", provider="openai"), Service(service), flavor, "large")
