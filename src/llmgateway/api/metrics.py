"""The gateway's figures: for Prometheus as text, for people and programs as JSON."""

from collections.abc import Awaitable, Callable, Mapping

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.errors import NotFoundError

_JSON = "application/json"
_TEXTS = frozenset({"text/plain", "application/openmetrics-text"})
_NO_STORE = {"cache-control": "no-store"}


def routes(
    render: Callable[[str], Awaitable[tuple[bytes, str]]],
    summary: Callable[[], Awaitable[Mapping[str, object]]],
    *,
    enabled: bool,
) -> list[Route]:
    """Serve `/metrics` and `/v1/health/metrics`.

    Args:
        render: Turns an Accept header into the text and its content type.
        summary: Gives the summary.
        enabled: Whether there is text for Prometheus; the summary is there in any case.
    """

    async def as_json(_: Request) -> Response:
        return Response(msgspec.json.encode(await summary()), headers=_NO_STORE, media_type=_JSON)

    async def metrics(request: Request) -> Response:
        accept = ",".join(request.headers.getlist("accept"))
        if prefers_json(accept):
            return await as_json(request)
        if not enabled:
            raise NotFoundError("Metrics for Prometheus are off (LLMGATEWAY_PROMETHEUS). Ask for application/json.")
        text, content_type = await render(accept)
        # Not as `media_type`: Starlette would add a second charset.
        return Response(text, headers={**_NO_STORE, "content-type": content_type})

    return [
        Route("/metrics", metrics, methods=["GET"]),
        Route("/v1/health/metrics", as_json, methods=["GET"]),
    ]


def prefers_json(accept: str) -> bool:
    """Whether JSON is what an Accept header likes best of all that we have, the first of equals (RFC 9110, 12.5.1)."""
    best, chosen = 0.0, ""
    for part in accept.lower().split(","):
        media_type, *parameters = (piece.strip() for piece in part.split(";"))
        weight = _weight(parameters)
        if media_type in _TEXTS | {_JSON} and weight > best:
            best, chosen = weight, media_type
    return chosen == _JSON


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0
