"""Flavors made ready to run: their prompts are texts, their models are there, and it is known who goes on for them."""

import re
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct, structs

from llmgateway.caller import Caller
from llmgateway.catalog.snapshot import Catalog
from llmgateway.documents.recipe import Recipe
from llmgateway.errors import DocumentError, PermissionDeniedError
from llmgateway.flavor import Flavor
from llmgateway.jobs.services import Service
from llmgateway.jobs.windows import Window, window_of
from llmgateway.storage.documents.rows import FlavorRow, PromptRow

_PROMPTS = ("system_prompt", "user_prompt", "reduce_prompt", "field_extraction_prompt", "categorization_prompt")
_ID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Known(Protocol):
    """What is known of flavors and prompts (`jobs/services.py`)."""

    async def flavor(self, flavor_id: str) -> FlavorRow | None: ...

    async def service_of(self, flavor_id: str) -> Service | None: ...

    async def prompt(self, prompt_id: str, organization: str | None) -> PromptRow | None: ...


class Prepared(Struct, frozen=True):
    """A flavor that can run, and what is known of its model beside what the recipe keeps."""

    recipe: Recipe
    window: Window


class Recipes:
    """Makes recipes of flavors.

    Args:
        names: Gives the catalog as it is now.
    """

    def __init__(self, known: Known, names: Callable[[], Catalog]) -> None:
        self._known = known
        self._names = names

    async def of(self, flavor: FlavorRow, organization: str | None) -> Prepared:
        """Make a flavor ready.

        Args:
            organization: The service's own: whose prompts it may name.

        Raises:
            DocumentError: There is no such model (`model_not_found`) or prompt (`prompt_not_found`).
        """
        window = window_of(self._names(), flavor.settings.model)
        settings = await self._with_texts(flavor, organization)
        dearest = window.dearest
        recipe = Recipe(
            flavor_id=flavor.id,
            flavor_name=flavor.name,
            settings=settings,
            model=window.model,
            context_length=window.context_length,
            max_generation=window.max_generation,
            window_estimated=window.estimated,
            upstream_model=window.upstream_model,
            tokenizer=settings.tokenizer_override or window.tokenizer,
            input_usd=None if dearest is None else dearest.input_usd,
            output_usd=None if dearest is None else dearest.output_usd,
        )
        return Prepared(recipe, window)

    async def after(self, service: Service, flavor: FlavorRow, caller: Caller) -> tuple[Recipe, ...]:
        """Make those ready that go on when this flavor fails during the run, in their order.

        Those that cannot run now, or not for this caller, are left out; whoever came before does not come again.
        """
        by_name = names_service(caller, service.row.route, flavor.name)
        seen, found = {flavor.id}, []
        next_id, depth = flavor.settings.failover_flavor_id, 0
        while next_id is not None and next_id not in seen and depth < flavor.settings.max_failover_depth:
            seen.add(next_id)
            depth += 1
            row = await self._known.flavor(next_id)
            its_service = await self._known.service_of(next_id)
            if row is None or its_service is None or not its_service.is_seen_by(service.row.organization_id):
                break
            recipe = await self._usable(its_service, row, caller)
            # Where the service is not named by the key, the run asks with the key's own models.
            if recipe is not None and (by_name or caller.may_use(recipe.model)):
                found.append(recipe)
            next_id = row.settings.failover_flavor_id
        return tuple(found)

    async def _usable(self, service: Service, flavor: FlavorRow, caller: Caller) -> Recipe | None:
        if not flavor.is_active:
            return None
        try:
            recipe = (await self.of(flavor, service.row.organization_id)).recipe
            check_caller(caller, service, flavor, recipe.model)
        except (DocumentError, PermissionDeniedError):
            return None
        return recipe

    async def _with_texts(self, flavor: FlavorRow, organization: str | None) -> Flavor:
        settings = flavor.settings
        texts: dict[str, str] = {}
        for field in _PROMPTS:
            value: str | None = getattr(settings, field)
            if value is not None and _ID.fullmatch(value):
                texts[field] = await self._text(value.lower(), field, flavor, organization)
        return structs.replace(settings, **texts) if texts else settings

    async def _text(self, prompt_id: str, field: str, flavor: FlavorRow, organization: str | None) -> str:
        prompt = await self._known.prompt(prompt_id, organization)
        if prompt is None:
            raise DocumentError(
                f"`{field}` of the flavor `{flavor.name}` names the prompt {prompt_id}, which is not there any more: "
                "PATCH /api/v1/flavors/{id} with another one, or with its text.",
                code="prompt_not_found",
                details={"flavor_id": flavor.id, "prompt_id": prompt_id},
            )
        return prompt.content


def names_service(caller: Caller, route: str, *flavors: str) -> bool:
    """Whether a key names a service as a model, or it with one of these flavors: then it may use whatever runs it."""
    name = f"service/{route}"
    return caller.models is None or any(caller.may_use(one) for one in (name, *(f"{name}:{its}" for its in flavors)))


def check_caller(caller: Caller, service: Service, flavor: FlavorRow, model: str) -> None:
    """Let those run a flavor whose key names the service as a model, or the model that runs it.

    Args:
        model: What is really asked for, where the flavor says `auto` or another one runs in its place.

    Raises:
        PermissionDeniedError: The key names neither, or is a provider's own: nobody would pay for the job but we.
    """
    if caller.kind == "provider":
        raise no_documents()
    name = f"service/{service.row.route}"
    if names_service(caller, service.row.route, flavor.name) or caller.may_use(model):
        return
    raise PermissionDeniedError(
        f"This key may neither use `{name}` nor the model of its flavor `{flavor.name}`. Ask whoever gave it to you to "
        f"add `{name}` to its models.",
        param="service",
        code="model_not_allowed",
    )


def no_documents() -> PermissionDeniedError:
    """Say that a provider's own key opens no document services."""
    return PermissionDeniedError("A provider's own key is good for model calls only, with /v1/models.")
