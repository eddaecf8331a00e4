"""Bedrock's wire: `/model/{model}/converse` and `converse-stream`, signed requests, AWS event-stream frames."""

import json
import re
import secrets
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.upstreams.answers import Answer, Question, Tool, answer_to, base64_size
from tests.upstreams.step import Request, Step, compact, json_step, retry_headers, stream_step

_STOPS = {"stop": "end_turn", "length": "max_tokens", "tools": "tool_use"}
_KINDS = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}
_SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/\d{8}/[\w-]+/bedrock/aws4_request, "
    r"SignedHeaders=(?P<headers>[\w;-]+), Signature=[0-9a-f]{64}"
)
_PATH = re.compile(r"/model/(?P<model>[^/]+)/(?P<method>converse|converse-stream)")
_STRING = 7  # AWS event stream: type of a header whose value is a string


@dataclass(frozen=True, slots=True)
class BedrockWire:
    """`key` is the access key id that must have signed; the signature itself is only looked at."""

    key: str = "AKIDUPSTREAM"
    base_path: str = ""

    def answer(self, request: Request) -> Step:
        signed = _SIGNED.fullmatch(request.headers.get("authorization", ""))
        if signed is None or signed["key"] != self.key or "x-amz-date" not in request.headers:
            return self.error(403, "The security token included in the request is invalid.", code="UnrecognizedClient")
        found = _PATH.fullmatch(request.path)
        if found is None:
            return self.error(404, f"No such path: {request.path}")
        answer = answer_to(_question(request.json))
        if found["method"] == "converse-stream":
            return stream_step(_events(answer), content_type="application/vnd.amazon.eventstream")
        return json_step(_converse(answer))

    def error(self, status: int, message: str, *, code: str | None = None, retry_after: str | None = None) -> Step:
        kind = code or _KINDS.get(status, "InternalServerException")
        headers = {"x-amzn-errortype": kind, "x-amzn-requestid": secrets.token_hex(16), **retry_headers(retry_after)}
        return json_step({"message": message}, status=status, headers=headers)

    def too_long(self) -> Step:
        return self.error(400, "Input is too long for requested model.")


def _converse(answer: Answer) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"text": answer.text}] if answer.text else []
    content += [
        {"toolUse": {"toolUseId": f"tooluse_{call.id}", "name": call.name, "input": call.arguments}}
        for call in answer.calls
    ]
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": _STOPS[answer.stopped],
        "usage": _usage(answer),
        "metrics": {"latencyMs": 5},
    }


def _usage(answer: Answer) -> dict[str, int]:
    total = answer.prompt_tokens + answer.completion_tokens
    return {"inputTokens": answer.prompt_tokens, "outputTokens": answer.completion_tokens, "totalTokens": total}


def _events(answer: Answer) -> Iterator[bytes]:
    yield frame("messageStart", {"role": "assistant"})
    for piece in answer.pieces:
        yield frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}})
    if answer.pieces:
        yield frame("contentBlockStop", {"contentBlockIndex": 0})
    for index, call in enumerate(answer.calls):
        start = {"toolUse": {"toolUseId": f"tooluse_{call.id}", "name": call.name}}
        yield frame("contentBlockStart", {"contentBlockIndex": index, "start": start})
        for part in call.pieces():
            yield frame("contentBlockDelta", {"contentBlockIndex": index, "delta": {"toolUse": {"input": part}}})
        yield frame("contentBlockStop", {"contentBlockIndex": index})
    yield frame("messageStop", {"stopReason": _STOPS[answer.stopped]})
    yield frame("metadata", {"usage": _usage(answer), "metrics": {"latencyMs": 5}})


def frame(kind: str, payload: dict[str, Any], *, exception: bool = False) -> bytes:
    """Wrap a payload as AWS event streams do: lengths, their CRC, headers, payload, CRC of all.

    Args:
        exception: Send it as an exception of that kind instead of an event.
    """
    kinds = {":exception-type": kind, ":message-type": "exception"} if exception else {":event-type": kind}
    named = {**kinds, ":content-type": "application/json"}
    named.setdefault(":message-type", "event")
    headers = b"".join(
        struct.pack("!B", len(name)) + name.encode() + struct.pack("!BH", _STRING, len(value)) + value.encode()
        for name, value in named.items()
    )
    body = compact(payload)
    prelude = struct.pack("!II", len(headers) + len(body) + 16, len(headers))
    whole = prelude + struct.pack("!I", zlib.crc32(prelude)) + headers + body
    return whole + struct.pack("!I", zlib.crc32(whole))


def _question(body: dict[str, Any]) -> Question:
    parts = body["messages"][-1]["content"]
    results = [part["toolResult"] for part in parts if "toolResult" in part]
    pictures = [part["image"] for part in parts if "image" in part]
    config = body.get("toolConfig", {})
    tools = [tool["toolSpec"] for tool in config.get("tools", []) if "toolSpec" in tool]
    return Question(
        text="".join(part.get("text", "") for part in parts),
        images=tuple((f"image/{one['format']}", base64_size(one["source"]["bytes"])) for one in pictures),
        tools=tuple(Tool(tool["name"], tool["inputSchema"]["json"]) for tool in tools),
        tool_result=json.dumps(results[-1]["content"]) if results else None,
        forced_tool=config.get("toolChoice", {}).get("tool", {}).get("name"),
        max_tokens=body.get("inferenceConfig", {}).get("maxTokens"),
    )
