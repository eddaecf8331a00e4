"""What is served here, for whoever opens the address itself."""

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


def routes(version: str) -> list[Route]:
    """Serve `/` and `/v1/` (and `/v1`, which SDK users type)."""

    async def welcome(_: Request) -> JSONResponse:
        return JSONResponse(
            {
                "name": "llmgateway",
                "version": version,
                "docs": "/docs",
                "openapi": "/openapi.json",
                "endpoints": [
                    "POST /v1/chat/completions",
                    "POST /v1/completions",
                    "POST /v1/embeddings",
                    "POST /v1/route",
                    "GET /v1/models",
                    "GET /v1/models/{id}",
                    "GET /v1/requests/{request_id}",
                    "GET /v1/usage",
                    "GET /health",
                    "GET /health/live",
                    "GET /health/ready",
                    "GET /health/detailed",
                    "GET /metrics",
                    "GET /metrics/performance",
                    "GET /metrics/trends",
                    "GET /metrics/costs",
                ],
            }
        )

    return [Route(path, welcome, methods=["GET"]) for path in ("/", "/v1", "/v1/")]
