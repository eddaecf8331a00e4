"""What is served here, for whoever opens the address itself."""

from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

ENDPOINTS = (
    *("POST /v1/chat/completions", "POST /v1/completions", "POST /v1/embeddings", "POST /v1/route"),
    *("GET /v1/models", "GET /v1/models/{id}", "GET /v1/requests/{request_id}", "GET /v1/usage"),
    *("GET /api/v1/services", "POST /api/v1/services/{id}/execute", "POST /api/v1/services/{id}/run"),
    *("GET /api/v1/jobs", "GET /api/v1/jobs/{id}", "GET /api/v1/jobs/{id}/events", "WS /ws/jobs/{id}"),
    *("GET /health", "GET /health/live", "GET /health/ready", "GET /health/detailed"),
    *("GET /metrics", "GET /metrics/performance", "GET /metrics/trends", "GET /metrics/costs"),
)


def welcome(version: str, endpoints: Sequence[str] = ENDPOINTS) -> Callable[[Request], Awaitable[Response]]:
    """Make what answers."""

    async def answer(_: Request) -> Response:
        return JSONResponse(
            {
                "name": "llmgateway",
                "version": version,
                "docs": "/docs",
                "openapi": "/openapi.json",
                "endpoints": list(endpoints),
            }
        )

    return answer


def routes(version: str) -> list[Route]:
    """Serve `/v1/`, and `/v1`, which SDK users type; `/` is the page's."""
    return [Route(path, welcome(version), methods=["GET"]) for path in ("/v1", "/v1/")]
