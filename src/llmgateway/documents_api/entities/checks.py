"""What a flavor rests on, checked before it is kept: its model, its prompts, and the flavors that run in its place."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from llmgateway.caller import Caller
from llmgateway.catalog.model import AUTO
from llmgateway.catalog.snapshot import Catalog
from llmgateway.documents.prompts import Use, check
from llmgateway.documents.running import schema_form
from llmgateway.documents_api.asked import short, unprocessable
from llmgateway.documents_api.shelves.keeping import Known
from llmgateway.errors import DocumentError, PermissionDeniedError
from llmgateway.flavor import LEAST_URGENT, Flavor
from llmgateway.jobs.recipes import check_caller
from llmgateway.jobs.services import Service
from llmgateway.storage.documents.rows import FlavorRow, PromptRow
from llmgateway.tokens.encodings import ENCODINGS

PROMPTS = ("system_prompt", "user_prompt", "reduce_prompt", "field_extraction_prompt", "categorization_prompt")
_USES: Mapping[str, Use] = {
    "system_prompt": "system",
    "reduce_prompt": "reduce",
    "field_extraction_prompt": "field_extraction",
    "categorization_prompt": "categorization",
}
# How a flavor names a prompt; everything else is the prompt itself.
_ID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

Link = Literal["fallback_flavor_id", "failover_flavor_id"]
LINKS: tuple[Link, ...] = ("fallback_flavor_id", "failover_flavor_id")


class Wish(Struct, frozen=True, kw_only=True):
    """A flavor as somebody wants it.

    Args:
        organization: The service's; `None` is everybody's.
        before: Its settings as they are; what is the same is not looked at again.
    """

    id: str
    name: str
    settings: Flavor
    organization: str | None
    before: Flavor | None = None

    def is_new(self, *fields: str) -> bool:
        """Whether one of these settings is another than before."""
        return self.before is None or any(
            getattr(self.before, field) != getattr(self.settings, field) for field in fields
        )


def check_flavor(wish: Wish, known: Known, catalog: Catalog, caller: Caller) -> None:
    """Refuse a flavor that could not run, or that would never end.

    Raises:
        DocumentError: `model_not_found`, `prompt_not_found`, `prompt_invalid`, `failover_cycle`,
            `fallback_flavor_not_found`, `failover_flavor_not_found`.
        PermissionDeniedError: It is more urgent than the key's owner allows, or rests on what the key may not run.
        UnprocessableError: Its tokenizer is none that a client may name, or its schema is none.
    """
    if wish.is_new("model"):
        check_model(wish.settings.model, catalog, caller)
    if wish.is_new("tokenizer_override"):
        _check_tokenizer(wish.settings.tokenizer_override)
    if wish.is_new("output_schema") and (schema := wish.settings.output_schema) is not None:
        _check_schema(schema)
    if wish.is_new(*PROMPTS, "processing_mode"):
        _check_prompts(wish, known)
    if wish.is_new("priority"):
        _check_priority(wish.settings.priority, caller)
    for link in LINKS:
        if wish.is_new(link):
            _check_link(wish, link, known, caller)


def check_model(name: str, catalog: Catalog, caller: Caller) -> None:
    """Refuse a model that nobody has, or not this caller: the same text for both. Raises: DocumentError."""
    # What is best is found when a job is planned; nothing is named by it.
    if caller.may_use(name) and (name == AUTO or catalog.resolve(name) is not None):
        return
    near = [other for other in catalog.nearest(name) if caller.may_use(other)]
    shown = f"; the nearest is {short(near[0])}" if near else ""
    raise DocumentError(
        f"`model`: the model {short(name)} does not exist or you do not have access to it{shown}. "
        "GET /v1/models lists what is there; `auto` is the best that is configured.",
        param="model",
        code="model_not_found",
        details={"available_models": near},
    )


def _check_tokenizer(name: str | None) -> None:
    if name is not None and name not in ENCODINGS:
        there = ", ".join(ENCODINGS)
        rule = f"is {short(name)}: write one of {there}, or null for the model's own; files are named in the catalog"
        raise unprocessable([(("body", "tokenizer_override"), rule)])


def _check_schema(schema: Mapping[str, Any]) -> None:
    """Refuse what would fail a job at its end. Raises: UnprocessableError."""
    if (wrong := schema_form.fault(schema)) is not None:
        raise unprocessable([(("body", "output_schema"), wrong.removesuffix("."))])


def _check_prompts(wish: Wish, known: Known) -> None:
    for field in PROMPTS:
        value: str | None = getattr(wish.settings, field)
        if value is not None:
            check_text(field, prompt_text(field, value, wish.organization, known.prompts), wish.settings)


def prompt_text(field: str, value: str, organization: str | None, prompts: Mapping[str, PromptRow]) -> str:
    """Give the text of a prompt that is one, or names one. Raises: DocumentError: `prompt_not_found`."""
    if not _ID.fullmatch(value):
        return value
    row = prompts.get(value.lower())
    if row is None or row.organization_id not in {None, organization}:
        raise DocumentError(
            f"`{field}`: there is no prompt {short(value)} that this service may use. GET /api/v1/prompts lists them; "
            "or send the prompt's text itself.",
            param=field,
            code="prompt_not_found",
        )
    return row.content


def check_text(field: str, text: str, settings: Flavor) -> None:
    """Refuse a prompt whose placeholders do not fit its purpose. Raises: DocumentError: `prompt_invalid`."""
    try:
        check(text, _USES.get(field, settings.processing_mode))
    except DocumentError as error:
        raise DocumentError(
            f"`{field}`: {error.message}", param=field, code=error.code, details=error.details
        ) from None


def check_prompt(row: PromptRow) -> None:
    """Refuse a prompt that no flavor could use. Raises: DocumentError: `prompt_invalid`."""
    if row.type != "standard":
        check(row.content, row.type)
    elif row.category == "system":
        check(row.content, "system")
    else:
        _check_any(row.content)


def _check_any(text: str) -> None:
    """Refuse a user prompt that fits no mode: what is right for each is known when a flavor names it."""
    try:
        check(text, "single_pass")
    except DocumentError:
        check(text, "iterative")


def flavors_with_prompt(prompt_id: str, flavors: Iterable[FlavorRow]) -> list[FlavorRow]:
    """Find the flavors that name a prompt."""
    return [
        flavor
        for flavor in flavors
        if any((getattr(flavor.settings, field) or "").lower() == prompt_id.lower() for field in PROMPTS)
    ]


def flavors_resting_on(targets: Iterable[str], flavors: Iterable[FlavorRow]) -> list[FlavorRow]:
    """Find the flavors that fall back or fail over to one of some."""
    wanted = set(targets)
    return [flavor for flavor in flavors if any(getattr(flavor.settings, link) in wanted for link in LINKS)]


def _check_priority(priority: int, caller: Caller) -> None:
    """Refuse what would let a key's own flavors pass all others by. Raises: PermissionDeniedError."""
    if priority < caller.most_urgent and caller.kind in {"client", "shared"}:
        raise PermissionDeniedError(
            f"`priority`: this key may make no flavor more urgent than {caller.most_urgent}: "
            f"send {caller.most_urgent} to {LEAST_URGENT}, or none.",
            param="priority",
            code="priority_not_allowed",
            details={"most_urgent": caller.most_urgent},
        )


def _check_link(wish: Wish, link: Link, known: Known, caller: Caller) -> None:
    target: str | None = getattr(wish.settings, link)
    if target is None:
        return
    row = known.flavors.get(target)
    service = None if row is None else known.services.get(row.service_id)
    # An organization's flavor may rest on global ones; a global one only on those.
    if target != wish.id and (service is None or service.organization_id not in {None, wish.organization}):
        raise DocumentError(
            f"`{link}`: there is no flavor {short(target)} that this one may rest on.",
            param=link,
            code=f"{link.removesuffix('_id')}_not_found",
        )
    if row is not None and service is not None:
        # Who asks for the one is answered by the other: a key gives itself no model that way.
        check_caller(caller, Service(service), row, row.settings.model)
    chain = _chain(wish, link, known.flavors)
    if chain[-1] in chain[:-1]:
        names = [wish.name if one == wish.id else known.flavors[one].name for one in chain]
        raise DocumentError(
            f"`{link}`: the flavors would go round for ever: {' → '.join(names)}. Let the last one name none.",
            param=link,
            code="failover_cycle",
            details={
                "chain": [{"flavor_id": one, "flavor_name": name} for one, name in zip(chain, names, strict=True)]
            },
        )


def _chain(wish: Wish, link: Link, flavors: Mapping[str, FlavorRow]) -> Sequence[str]:
    def following(flavor_id: str) -> str | None:
        if flavor_id == wish.id:
            after: str | None = getattr(wish.settings, link)
            return after
        return next_of(flavors, link)(flavor_id)

    return chain_of(wish.id, following)


def next_of(flavors: Mapping[str, FlavorRow], link: Link) -> Callable[[str], str | None]:
    """Give what tells which flavor comes after one; those that are gone are none."""

    def following(flavor_id: str) -> str | None:
        row = flavors.get(flavor_id)
        after: str | None = None if row is None else getattr(row.settings, link)
        return after if after in flavors else None

    return following


def chain_of(first: str, following: Callable[[str], str | None]) -> list[str]:
    """Follow flavors from one to the next; the last is there twice when they go round."""
    chain = [first]
    while (after := following(chain[-1])) is not None:
        chain.append(after)
        if after in chain[:-1]:
            break
    return chain
