"""What every player says, whatever its wire: an echo, two tool calls at once, or JSON by a schema."""

import base64
import binascii
import json
import re
import secrets
from dataclasses import dataclass, field
from typing import Any, Literal

# One red pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PNG_URI = "data:image/png;base64," + base64.b64encode(PNG).decode()
_LEAVES = {"integer": 7, "number": 1.5, "boolean": True, "null": None}


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """A request, without the wire it came on.

    Args:
        text: The last user message's words.
        images: Media type and size in bytes of each picture.
        tool_result: What the client's tool answered, when that is the last word.
        forced_tool: The one tool that must be called.
        schema: What the answer must look like, as JSON Schema.
    """

    text: str
    images: tuple[tuple[str, int], ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_result: str | None = None
    forced_tool: str | None = None
    parallel: bool = True
    schema: dict[str, Any] | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    name: str
    arguments: dict[str, Any]
    id: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def arguments_json(self) -> str:
        return json.dumps(self.arguments, ensure_ascii=False)

    def pieces(self, size: int = 3) -> list[str]:
        """The arguments in pieces of a few characters."""
        text = self.arguments_json
        return [text[at : at + size] for at in range(0, len(text), size)]


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    prompt_tokens: int
    completion_tokens: int
    calls: tuple[ToolCall, ...] = ()
    stopped: Literal["stop", "length", "tools"] = "stop"

    @property
    def pieces(self) -> list[str]:
        return words(self.text)


def words(text: str) -> list[str]:
    """Cut a text after each word; joined again they are the text."""
    return re.findall(r"\s*\S+\s*?|\s+", text)


def answer_to(question: Question) -> Answer:
    prompt_tokens = len(question.text.split()) + 85 * len(question.images) + 3
    calls = _calls(question)
    if calls:
        return Answer("", prompt_tokens, sum(len(call.pieces()) for call in calls), calls, "tools")
    text = _text(question)
    pieces = words(text)
    if question.max_tokens is not None and len(pieces) > question.max_tokens:
        pieces = pieces[: question.max_tokens]
        return Answer("".join(pieces), prompt_tokens, len(pieces), stopped="length")
    return Answer(text, prompt_tokens, len(pieces))


def _text(question: Question) -> str:
    if question.schema is not None:
        return json.dumps(sample(question.schema), ensure_ascii=False)
    if question.tool_result is not None:
        return f"The tool said: {question.tool_result}"
    return "".join(f"[{media} {size} bytes] " for media, size in question.images) + question.text


def _calls(question: Question) -> tuple[ToolCall, ...]:
    if not question.tools or question.tool_result is not None:
        return ()
    if question.forced_tool is not None:
        forced = next(tool for tool in question.tools if tool.name == question.forced_tool)
        return (ToolCall(forced.name, sample(forced.schema)),)
    chosen = (question.tools * 2)[:2] if question.parallel else question.tools[:1]
    return tuple(ToolCall(tool.name, sample(tool.schema, turn=turn)) for turn, tool in enumerate(chosen))


def sample(schema: dict[str, Any], *, name: str = "value", turn: int = 0) -> Any:
    """Make a value that a JSON Schema allows; its strings hold letters of two and four bytes."""
    return _Sampler(schema, turn).of(schema, name)


class _Sampler:
    """Keeps the root, where `$ref` points, and the turn, so that two calls differ."""

    def __init__(self, root: dict[str, Any], turn: int) -> None:
        self._root = root
        self._turn = turn

    def of(self, schema: dict[str, Any], name: str) -> Any:
        schema = self._resolved(schema)
        if "const" in schema or "enum" in schema:
            return schema.get("const", schema.get("enum", [None])[0])
        kind = schema.get("type", "object")
        kind = (kind[0] if isinstance(kind, list) else kind).lower()
        if kind == "object":
            return {inner: self.of(part, inner) for inner, part in schema.get("properties", {}).items()}
        if kind == "array":
            return [self.of(schema.get("items", {"type": "string"}), name)]
        return _LEAVES.get(kind, f"{name} é😀 {self._turn}")

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in schema:
            found: Any = self._root
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            return self._resolved(found)
        alternatives = schema.get("anyOf") or schema.get("oneOf")
        return self._resolved(alternatives[0]) if alternatives else schema


def base64_size(content: str) -> int:
    """How many bytes a base64 text stands for; -1 when it is not base64."""
    try:
        return len(base64.b64decode(content, validate=True))
    except binascii.Error:
        return -1


def vector(text: str, dimensions: int = 8) -> list[float]:
    """Make an embedding that depends on the text alone; every number is exact in 32 bits."""
    seed = binascii.crc32(text.encode())
    return [((seed >> (step % 24)) % 256 - 128) / 128 for step in range(dimensions)]
