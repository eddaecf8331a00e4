"""The description of everything served, in OpenAPI 3.1, and the page that shows it."""

from importlib.resources import files
from typing import Any

import msgspec
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


def routes(version: str) -> list[Route]:
    """Serve `/openapi.json` and `/docs`, both rendered once."""
    document = openapi_document(version)
    as_json, page = msgspec.json.encode(document), docs_page(document)
    page_headers = {"content-security-policy": content_security_policy(), "cache-control": "no-cache"}

    async def read_document(_: Request) -> Response:
        return Response(as_json, media_type="application/json")

    async def read_docs(_: Request) -> Response:
        return Response(page, media_type="text/html", headers=page_headers)

    return [
        Route("/openapi.json", read_document, methods=["GET"]),
        Route("/docs", read_docs, methods=["GET"]),
    ]


def openapi_document(version: str) -> dict[str, Any]:
    """Build the OpenAPI 3.1 document.

    Args:
        version: The gateway's version.
    """
    document: dict[str, Any] = msgspec.json.decode((files("llmgateway.api") / "openapi.json").read_bytes())
    document["info"]["version"] = version
    paths = document["paths"]
    for twin, path in _TWINS.items():
        operation = paths[path]["get"]
        name = twin.removeprefix("/").replace("/", "_")
        paths[twin] = {"get": {**operation, "operationId": f"{operation['operationId']}_{name}", "x-same-as": path}}
    return document
