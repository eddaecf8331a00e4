"""The description of everything served, in OpenAPI 3.1, and the page that shows it."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.api.docs_page import content_security_policy, docs_page

# Other names of the same probes, as other gateways and Kubernetes call them.
_TWINS = {
    "/v1/health/live": "/health/live",
    "/livez": "/health/live",
    "/v1/health/ready": "/health/ready",
    "/readyz": "/health/ready",
    "/v1/health/detailed": "/health/detailed",
    "/v1": "/",
    "/v1/": "/",
}

# What everybody may read, with auth or without (`middleware/auth`).
_OPEN = frozenset({"/", "/openapi.json", "/docs", "/health", "/health/live", "/health/ready"})
_SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"X-API-Key": []}, {"api-key": []}]
_MODEL_CALLS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
_MODEL_CALL_HEADERS = (
    *("X-Cache-Type", "X-Cache-Similarity", "X-Sensitivity", "Idempotent-Replayed"),
    *("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"),
    *("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    *("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
)
# What another room says of its own paths: `tags`, `paths`, `components`, `x-websockets`.
Part = Callable[[], dict[str, Any]]


def routes(version: str, parts: Sequence[Part] = ()) -> list[Route]:
    """Serve `/openapi.json` and `/docs`, both rendered when the first is asked for: a start need not wait for them."""
    page_headers = {"content-security-policy": content_security_policy(), "cache-control": "no-cache"}

    @cache
    def rendered() -> tuple[bytes, bytes]:
        document = openapi_document(version, parts)
        return msgspec.json.encode(document), docs_page(document)

    async def read_document(_: Request) -> Response:
        return Response((await to_thread.run_sync(rendered))[0], media_type="application/json")

    async def read_docs(_: Request) -> Response:
        return Response((await to_thread.run_sync(rendered))[1], media_type="text/html", headers=page_headers)

    return [
        Route("/openapi.json", read_document, methods=["GET"]),
        Route("/docs", read_docs, methods=["GET"]),
    ]


def openapi_document(version: str, parts: Sequence[Part] = ()) -> dict[str, Any]:
    """Build the OpenAPI 3.1 document.

    Args:
        version: The gateway's version.
        parts: What other rooms say of their paths.
    """
    document = _read("openapi.json")
    document["info"]["version"] = version
    paths = document["paths"]
    for path in paths.keys() - _OPEN:
        _guard(paths[path])
    for path in _MODEL_CALLS:
        _protect(paths[path]["post"])
    for part in (_read("openapi_admin.json"), *(described() for described in parts)):
        _join(document, part)
    for twin, path in _TWINS.items():
        operation = paths[path]["get"]
        name = twin.removeprefix("/").replace("/", "_")
        paths[twin] = {"get": {**operation, "operationId": f"{operation['operationId']}_{name}", "x-same-as": path}}
    return document


def _join(document: dict[str, Any], part: dict[str, Any]) -> None:
    """Put a part in: what is said of other methods of the same path, or of another component of a kind, stays."""
    document["tags"] += part["tags"]
    for path, methods in part["paths"].items():
        document["paths"].setdefault(path, {}).update(methods)
    for kind, components in part["components"].items():
        document["components"].setdefault(kind, {}).update(components)
    if sockets := part.get("x-websockets"):
        document.setdefault("x-websockets", {}).update(sockets)


def _read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.json.decode((files("llmgateway.api") / name).read_bytes())
    return document


def _guard(methods: dict[str, Any]) -> None:
    """Say that a key is needed, and what is answered without the right one."""
    for operation in methods.values():
        operation["security"] = _SECURITY
        operation["responses"] |= {"401": _response("Unauthorized"), "403": _response("Forbidden")}


def _protect(operation: dict[str, Any]) -> None:
    """Say what limits, caches and idempotency add to a model call."""
    operation["responses"]["409"] = _response("IdempotencyConflict")
    operation["parameters"] += [
        {"$ref": f"#/components/parameters/{name}"} for name in ("IdempotencyKey", "CacheControl", "CacheTTL")
    ]
    headers = {name: {"$ref": f"#/components/headers/{name}"} for name in _MODEL_CALL_HEADERS}
    operation["responses"]["200"]["headers"] |= headers


def _response(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/responses/{name}"}
