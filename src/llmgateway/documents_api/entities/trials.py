"""Flavors and prompts tried out, without a job: one call with a flavor's settings, and whether a prompt is taken."""

from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import structs
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.documents.prompts import DOCUMENTS_LANGUAGE, fill, names_in
from llmgateway.documents.question import Answer, Question
from llmgateway.documents_api.asked import Body, body_asked, exchange_of
from llmgateway.documents_api.entities.checks import check_text, prompt_text
from llmgateway.documents_api.entities.fields import PromptText
from llmgateway.documents_api.entities.flavors import Found, flavor_asked
from llmgateway.documents_api.shelves.keeping import Keeping
from llmgateway.documents_api.shelves.viewer import viewer_of
from llmgateway.documents_api.shown import json_answer, moment
from llmgateway.errors import DocumentError
from llmgateway.exchange import Call, Exchange
from llmgateway.flavor import Flavor, Mode
from llmgateway.jobs.recipes import check_caller, names_service
from llmgateway.jobs.running.asking import asked, fields_of
from llmgateway.jobs.seams import Ask, Record
from llmgateway.jobs.windows import Window, window_of

_LONGEST_TRIAL = 200_000
_FIELDS = {
    "system": "system_prompt",
    "user": "user_prompt",
    "reduce": "reduce_prompt",
    "field_extraction": "field_extraction_prompt",
    "categorization": "categorization_prompt",
}


class FlavorTrial(Body):
    """What a flavor's model is asked, as it is."""

    prompt: Annotated[str, Field(min_length=1, max_length=_LONGEST_TRIAL)]


class PromptToCheck(Body):
    """A prompt that would be a flavor's.

    Args:
        prompt: Its text, or its id.
        use: Which of the flavor's prompts it would be.
    """

    prompt: PromptText
    use: Annotated[str, Field(pattern=f"^({'|'.join(_FIELDS)})$")] = "user"
    processing_mode: Mode = "iterative"


def routes(keeping: Keeping, ask: Ask, record: Record) -> list[Route]:
    """Serve `/api/v1/flavors/{id}/test` and `/api/v1/flavors/validate-prompt`; these come before `/flavors/{id}`.

    Args:
        ask: Answers one call as everybody's are answered.
        record: Writes its exchange down.
    """

    async def validate_prompt(request: Request) -> Response:
        body, viewer = body_asked(request, PromptToCheck), viewer_of(request)
        field = _FIELDS[body.use]
        known = await keeping.known()
        text = prompt_text("prompt", body.prompt, viewer.organization, known.prompts)
        return json_answer(_verdict(field, text, body.processing_mode))

    async def try_flavor(request: Request) -> Response:
        body, viewer = body_asked(request, FlavorTrial), viewer_of(request)
        found = await flavor_asked(keeping, viewer, request.path_params["flavor_id"])
        window = window_of(keeping.catalog(), found.flavor.settings.model)
        check_caller(viewer.caller, found.service, found.flavor, window.model)
        known = await keeping.known()
        value = found.flavor.settings.system_prompt
        owner = found.service.row.organization_id
        system = None if value is None else prompt_text("system_prompt", value, owner, known.prompts)
        fields = _fields(found.flavor.settings, window, system, body.prompt)
        by_name = names_service(viewer.caller, found.service.row.route, found.flavor.name)
        exchange = _exchange(exchange_of(request), by_name=by_name)
        began = datetime.now(UTC)
        call = Call("chat", window.model, msgspec.json.encode(fields), max_tokens=fields.get("max_tokens"))
        answer = await asked(ask, record, exchange, call)
        return json_answer(_shown(found, exchange, answer, began))

    return [
        Route("/api/v1/flavors/validate-prompt", validate_prompt, methods=["POST"]),
        Route("/api/v1/flavors/{flavor_id}/test", try_flavor, methods=["POST"]),
    ]


def _verdict(field: str, text: str, mode: Mode) -> dict[str, Any]:
    told: dict[str, Any] = {"valid": True, "error_code": None, "message": None, "required": None, "actual": None}
    try:
        check_text(field, text, Flavor(model="", processing_mode=mode))
    except DocumentError as error:
        told = {"valid": False, "error_code": error.code.upper(), "message": error.message, **(error.details or {})}
    return {**told, "processing_mode": mode, "placeholders": sorted(names_in(text))}


def _fields(settings: Flavor, window: Window, system: str | None, prompt: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    if system is not None:
        values = {"language": DOCUMENTS_LANGUAGE, "instructions": "", "fields": "", "tags": ""}
        messages.insert(0, {"role": "system", "content": fill(system, values)})
    question = Question(step="test", type="single_pass", messages=tuple(messages), max_tokens=window.max_generation)
    return fields_of(question, settings, window.model, stream=False)


def _exchange(request: Exchange, *, by_name: bool) -> Exchange:
    """Begin an exchange of its own: it is a model's call, and the request that makes it is none."""
    # Whose key names the service may try it with the model that it has; all others with their own models.
    caller = structs.replace(request.caller, models=None) if by_name else request.caller
    return Exchange(
        method=request.method,
        path=request.path,
        client_id=request.id,
        caller=caller,
        organization=request.organization,
        deadline=request.deadline,
    )


def _shown(found: Found, exchange: Exchange, answer: Answer, began: datetime) -> dict[str, Any]:
    usage = exchange.usage
    return {
        "service_id": found.service.row.id,
        "flavor_id": found.flavor.id,
        "flavor_name": found.flavor.name,
        "request_id": exchange.id,
        "content": answer.text,
        "finish_reason": answer.finish_reason,
        "refusal": answer.refusal,
        "provider": exchange.provider,
        "model": exchange.upstream_model,
        "prompt_tokens": None if usage is None else usage.prompt_tokens,
        "completion_tokens": None if usage is None else usage.completion_tokens,
        "cost_usd": exchange.cost_usd,
        "started_at": moment(began),
        "duration_ms": round((datetime.now(UTC) - began).total_seconds() * 1e3, 1),
        "attempts": len(exchange.attempts),
    }
