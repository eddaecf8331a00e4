"""What OpenAPI's document says of organizations here: the schemas are those of `/admin/organizations`."""

from typing import Any

from llmgateway.documents_api.shelves.describing import JSON, Operation, operation, ref

_TAG = "Organizations"
_ALL, _ONE = "/api/v1/organizations", "/api/v1/organizations/{organization_id}"
_BODIES: dict[str, tuple[str, JSON]] = {
    "post": ("NewOrganization", {"id": "acme", "name": "Acme", "budget": {"usd": 500}}),
    "patch": ("OrganizationChange", {"budget": {"usd": 1000}}),
}


def described() -> dict[str, Any]:
    """Give `tags`, `paths` and `components`."""
    paths: dict[str, JSON] = {_ALL: {}, _ONE: {}}
    for path, method, given in (
        (_ALL, "get", _of("listOrganizationsHere", "List", "OrganizationList", is_list=True)),
        (_ALL, "post", _of("createOrganizationHere", "Make one", "Organization", status=201)),
        (_ONE, "get", _of("readOrganizationHere", "Read one", "Organization")),
        (_ONE, "patch", _of("changeOrganizationHere", "Change one", "Organization")),
        (_ONE, "delete", _of("removeOrganizationHere", "Remove one", "Deleted")),
    ):
        paths[path][method] = _with_body(method, operation(path, given))
    tag = {"name": _TAG, "description": "As under `/admin/organizations`. Needs the admin key."}
    return {"tags": [tag], "paths": paths, "components": {}}


def _of(name: str, summary: str, answer: str, **more: Any) -> Operation:
    return Operation(id=name, tag=_TAG, summary=summary, answer=answer, **more)


def _with_body(method: str, written: JSON) -> JSON:
    """Add the body, and what is refused of bodies."""
    refused = {"400": "JobsBadRequest", "409": "JobsConflict", "413": "JobsTooLarge"}
    answers = {status: {"$ref": f"#/components/responses/{name}"} for status, name in refused.items()}
    responses = {**written["responses"], **answers}
    if method not in _BODIES:
        return {**written, "responses": responses}
    name, example = _BODIES[method]
    content = {"schema": ref(name), "examples": {"plain": {"summary": "For example", "value": example}}}
    body = {"required": True, "content": {"application/json": content}}
    return {**written, "requestBody": body, "responses": responses}
