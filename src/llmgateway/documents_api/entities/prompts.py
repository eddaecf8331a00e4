"""Prompts: texts with named placeholders, which flavors name by their ids."""

from functools import partial
from typing import Any

from msgspec import structs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.documents_api.asked import body_asked
from llmgateway.documents_api.entities.checks import check_prompt, flavors_with_prompt
from llmgateway.documents_api.entities.fields import NewPrompt, PromptChange, PromptCopy
from llmgateway.documents_api.entities.shown import prompt_shown
from llmgateway.documents_api.shelves.keeping import Keeping, named_in
from llmgateway.documents_api.shelves.shelf import Shelf
from llmgateway.documents_api.shelves.viewer import viewer_of
from llmgateway.errors import ConflictError
from llmgateway.storage.documents.rows import PromptRow

_PATH = "/api/v1/prompts"
_KEPT = ("content", "category", "type", "service_type", "description")


def routes(keeping: Keeping) -> list[Route]:
    """Serve `/api/v1/prompts`."""
    shelf = Shelf(
        keeping,
        "prompt",
        _PATH,
        bodies=(NewPrompt, PromptChange),
        row=PromptRow,
        shown=prompt_shown,
        check=check_prompt,
        check_removal=partial(_check_removal, keeping),
    )

    async def duplicate(request: Request) -> Response:
        body = body_asked(request, PromptCopy)
        row = await shelf.found(request)
        names = {other.name for other in await shelf.seen(viewer_of(request))}
        fields = structs.asdict(row)
        copied: dict[str, Any] = {name: fields[name] for name in _KEPT}
        return await shelf.made(request, body, {**copied, "name": body.name or _free(row.name, names)})

    return [*shelf.routes(), Route(f"{_PATH}/{{id}}/duplicate", duplicate, methods=["POST"])]


async def _check_removal(keeping: Keeping, row: PromptRow) -> None:
    using = flavors_with_prompt(row.id, (await keeping.known()).flavors.values())
    if using:
        raise ConflictError(
            f"{len(using)} flavors rest on this prompt ({named_in(flavor.name for flavor in using)}): "
            "give them another one first.",
            code="prompt_in_use",
            details={"flavor_ids": [flavor.id for flavor in using]},
        )


def _free(name: str, taken: set[str]) -> str:
    """Find a name for a copy."""
    number = 1
    while (free := f"{name[:85]} (copy{f' {number}' if number > 1 else ''})") in taken:
        number += 1
    return free
