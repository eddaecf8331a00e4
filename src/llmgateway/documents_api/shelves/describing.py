"""How operations and their bodies are written in OpenAPI: bodies from what checks them, so that both always agree."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

JSON = dict[str, Any]
TEXT: JSON = {"type": "string"}
MOMENT: JSON = {"type": "string", "format": "date-time"}
FLAG: JSON = {"type": "boolean"}
WHOLE: JSON = {"type": "integer"}
NUMBER: JSON = {"type": "number"}
OBJECT: JSON = {"type": "object"}

_SCHEMAS = "#/components/schemas/"
_TRACED = ("X-Request-ID", "X-Gateway-Request-ID")
_SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"X-API-Key": []}, {"api-key": []}]
# What everything under /api/v1 may refuse, and what is refused where something is named or sent (`openapi_jobs.json`).
_ALWAYS = {
    "401": "JobsUnauthorized",
    "403": "JobsForbidden",
    "405": "JobsMethodNotAllowed",
    "422": "JobsUnprocessable",
    "503": "JobsUnavailable",
}
_NAMED = {"400": "JobsBadRequest", "404": "JobsNotFound", "409": "JobsConflict", "413": "JobsTooLarge"}

_ASKED = {"502": "DocumentsProviderFailed", "504": "DocumentsTimedOut"}


class Operation(Struct, frozen=True, kw_only=True):
    """One method of one path.

    Args:
        answer: The schema's name.
        body: The class that checks the body, and an example of one; an operation that takes none has an empty one.
        query: Further parameters by name, each with what it means.
        asks: Whether a provider is asked, which may fail or take too long.
    """

    id: str
    tag: str
    summary: str
    answer: str
    status: int = 200
    description: str = ""
    body: tuple[type[BaseModel], JSON] | None = None
    query: Mapping[str, str] = {}
    is_list: bool = False
    asks: bool = False


def ref(name: str) -> JSON:
    """Point to a schema."""
    return {"$ref": f"{_SCHEMAS}{name}"}


def or_null(schema: Mapping[str, Any]) -> JSON:
    """Let a value be null as well."""
    if isinstance(kind := schema.get("type"), str) and "enum" not in schema:
        return {**schema, "type": [kind, "null"]}
    return {"anyOf": [dict(schema), {"type": "null"}]}


def shape(properties: Mapping[str, JSON], meanings: Mapping[str, str], description: str = "") -> JSON:
    """Describe an object all of whose fields are always there."""
    schema: JSON = {
        "type": "object",
        "properties": {name: _meant(name, given, meanings) for name, given in properties.items()},
        "required": list(properties),
    }
    return {**schema, "description": description} if description else schema


def pages_of(name: str) -> JSON:
    """Describe a page of a list."""
    fields = {"items": {"type": "array", "items": ref(name)}}
    return shape({**fields, **dict.fromkeys(("total", "page", "page_size", "total_pages"), WHOLE)}, {})


def bodies(kinds: Sequence[type[BaseModel]], meanings: Mapping[str, str]) -> dict[str, JSON]:
    """Describe bodies, and what stands in them, by their classes' names."""
    _, found = models_json_schema([(kind, "validation") for kind in kinds], ref_template=f"{_SCHEMAS}{{model}}")
    return {name: _plain(name, schema, meanings) for name, schema in found.get("$defs", {}).items()}


def failures() -> dict[str, JSON]:
    """Describe what operations answer that ask a provider, by the responses' names."""
    examples = {
        "DocumentsProviderFailed": ("The provider failed.", "provider_unavailable"),
        "DocumentsTimedOut": ("The provider did not answer in time.", "provider_timeout"),
    }
    return {name: _problem(*told) for name, told in examples.items()}


def _problem(description: str, code: str) -> JSON:
    problem = {"detail": description, "error_code": code.upper(), "request_id": "req_19f3c2b41a7d5e0c93b28f64a1"}
    content = {"schema": ref("JobProblem"), "examples": {code: {"value": problem}}}
    return {"description": description, "headers": _traced(), "content": {"application/json": content}}


def _traced() -> JSON:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in _TRACED}


def operation(path: str, given: Operation) -> JSON:
    """Describe an operation."""
    names = [step.strip("{}") for step in path.split("/") if step.startswith("{")]
    parameters = [_parameter(name, "path", "Its id." if name != "service_id" else _BY_ROUTE) for name in names]
    parameters += [_parameter(name, "query", meaning) for name, meaning in given.query.items()]
    if given.is_list:
        parameters += [{"$ref": f"#/components/parameters/{name}"} for name in ("Page", "PageSize")]
    parameters.append({"$ref": "#/components/parameters/OrganizationId"})
    refusals = {**_ALWAYS, **(_NAMED if names or given.body is not None or given.query else {})}
    refusals |= _ASKED if given.asks else {}
    responses = {str(given.status): _answer(given)} | {
        status: {"$ref": f"#/components/responses/{name}"} for status, name in sorted(refusals.items())
    }
    written: JSON = {"operationId": given.id, "tags": [given.tag], "summary": given.summary}
    if given.description:
        written["description"] = given.description
    written["parameters"] = parameters
    if given.body is not None:
        written["requestBody"] = _request(*given.body)
    return {**written, "responses": responses, "security": _SECURITY}


_BY_ROUTE = "Its id, or its route."


def _parameter(name: str, where: str, meaning: str) -> JSON:
    return {"name": name, "in": where, "required": where == "path", "description": meaning, "schema": TEXT}


def _request(kind: type[BaseModel], example: JSON) -> JSON:
    schema: JSON = ref(kind.__name__)
    content = {"schema": schema, "examples": {"plain": {"summary": "For example", "value": example}}}
    return {"required": bool(example), "content": {"application/json": content}}


def _answer(given: Operation) -> JSON:
    return {
        "description": "The answer.",
        "headers": _traced(),
        "content": {"application/json": {"schema": ref(given.answer)}},
    }


def _plain(kind: str, schema: JSON, meanings: Mapping[str, str]) -> JSON:
    """Take out what says nothing to whoever reads it: titles, and the defaults of what a change leaves as it is."""
    left_out = {"title", "default"} if kind.endswith("Change") else {"title"}
    plain = {name: value for name, value in schema.items() if name != "title"}
    if "description" in plain:
        plain["description"] = plain["description"].partition("\n")[0]
    if "properties" in plain:
        plain["properties"] = {
            name: _meant(name, {key: value for key, value in given.items() if key not in left_out}, meanings)
            for name, given in plain["properties"].items()
        }
    return plain


def _meant(name: str, given: Mapping[str, Any], meanings: Mapping[str, str]) -> JSON:
    empty: tuple[object, ...] = ("", None)
    plain = {key: value for key, value in given.items() if key != "default" or value not in empty}
    return {**plain, "description": meanings[name]} if name in meanings and "$ref" not in plain else plain
