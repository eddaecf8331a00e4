"""Azure OpenAI's form of OpenAI's wire: a deployment in the path, `api-key`, and content filter results."""

from dataclasses import dataclass, replace
from typing import Any

from tests.upstreams.openai_wire import chat, completion, embeddings, event
from tests.upstreams.step import Piece, Request, Step, compact, json_step, retry_headers

_SAFE = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
FILTER_RESULTS = [{"prompt_index": 0, "content_filter_results": _SAFE}]
_ROUTES = {"chat/completions": chat, "completions": completion, "embeddings": embeddings}


@dataclass(frozen=True, slots=True)
class AzureWire:
    key: str = "azure-upstream"
    deployment: str = "gpt-4o"
    base_path: str = ""

    def answer(self, request: Request) -> Step:
        if request.headers.get("api-key") != self.key:
            message = "Access denied due to invalid subscription key or wrong API endpoint."
            return self.error(401, message, code="401")
        if not request.query.get("api-version"):
            return self.error(404, "Resource not found", code="404")
        start = f"/openai/deployments/{self.deployment}/"
        answer = _ROUTES.get(request.path.removeprefix(start))
        if answer is None or not request.path.startswith(start):
            message = "The API deployment for this resource does not exist."
            return self.error(404, message, code="DeploymentNotFound")
        return _filtered(answer({"model": self.deployment, **request.json}), request.json)

    def error(self, status: int, message: str, *, code: str | None = None, retry_after: str | None = None) -> Step:
        body = {"error": {"code": code or str(status), "message": message}}
        return json_step(body, status=status, headers=retry_headers(retry_after))

    def too_long(self) -> Step:
        message = (
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 130001 tokens."
        )
        return self.error(400, message, code="context_length_exceeded")


def _filtered(step: Step, body: dict[str, Any]) -> Step:
    """Say first, as Azure does, what its filter thinks of the prompt."""
    if not body.get("stream") or "messages" not in body:
        return step
    first = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": FILTER_RESULTS}
    return replace(step, pieces=(Piece(event(first)), *step.pieces))


def content_filter_error() -> Step:
    """Refuse a prompt as Azure's filter does."""
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": _SAFE}
    error = {"message": "The response was filtered.", "type": None, "param": "prompt", "code": "content_filter"}
    content = compact({"error": {**error, "status": 400, "innererror": inner}})
    return Step(status=400, headers={"content-type": "application/json"}, pieces=(Piece(content),))
