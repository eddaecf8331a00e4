"""The call that asks a deployment to go on with an answer that another one began. Pure.

As a prefix of its own answer where the provider takes one, else by instruction:

- `mistral`, `codestral`: `"prefix": true` on the last message, an assistant's (Mistral docs, prefix); what it sends
  begins with the prefix itself.
- `vllm`, `hosted_vllm`: `continue_final_message` without `add_generation_prompt` (vLLM, OpenAI-compatible server).
- `ollama`, `ollama_chat`: the last message is gone on with when it is an assistant's (Ollama, chat API).
- `anthropic`: the same, for Claude up to 4.5 while it does not think; later ones refuse it.
- all others, DeepSeek included, whose prefix needs another address: the text as an assistant's message, and a user's
  that asks for the rest of it.

A call that wants JSON is always asked by instruction, and without `response_format`: that would make each model begin
with a JSON value of its own.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from llmgateway.catalog.model import Deployment
from llmgateway.exchange import Call

Way = Literal["prefix_field", "final_message", "last_message", "instruction"]

_WAYS: Mapping[str, Way] = {
    "mistral": "prefix_field",
    "codestral": "prefix_field",
    "vllm": "final_message",
    "hosted_vllm": "final_message",
    "ollama": "last_message",
    "ollama_chat": "last_message",
    "anthropic": "last_message",
}
_TAKES_PREFIX = re.compile(r"claude-(?:instant|[23](?:[.-]|$)|(?:opus|sonnet|haiku)-4(?:-[015])?(?:-\d{8}|-latest)?$)")
# OpenAI's rule of thumb for English.
_BYTES_A_TOKEN = 4
_LENGTHS = ("max_tokens", "max_completion_tokens")
_THINKS = ("thinking", "reasoning_effort", "reasoning")
_INSTRUCTION = (
    "Your answer was cut off in the middle. Write the rest of it: begin with the very next character after the last "
    "one that is there. Repeat nothing of it, do not start again, and say nothing about the interruption."
)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_JSON = msgspec.json.Encoder()


def may_continue(call: Call) -> bool:
    """Whether the rest of an answer to this call can be another model's: text alone, and one answer."""
    if call.operation != "chat" or call.n != 1:
        return False
    fields = _plain(call.body, ("logprobs", "audio", "modalities"))
    return not fields["logprobs"] and not fields["audio"] and "audio" not in (fields["modalities"] or ())


def wants_json(call: Call) -> bool:
    """Whether the whole answer is to be JSON."""
    return _json_asked(_plain(call.body, ("response_format",))["response_format"]) is not None


def continues_exactly(call: Call, deployment: Deployment) -> bool:
    """Whether this deployment goes on with its prefix and sends nothing of it again."""
    return _way(_FIELDS.decode(call.body), deployment) in {"final_message", "last_message"}


def continued(call: Call, said: str, deployment: Deployment) -> Call:
    """Make the call that asks for what comes after a text; with nothing but blanks said, it is the call as it was.

    The blanks at the end of the text are left out: Anthropic refuses them, and most models do worse with them.
    """
    seen = said.rstrip()
    if not seen:
        return call
    fields = _FIELDS.decode(call.body)
    way = _way(fields, deployment)
    message: dict[str, Any] = {"role": "assistant", "content": seen}
    messages: list[Any] = msgspec.json.decode(fields["messages"], type=list[msgspec.Raw])
    messages.append(message)
    if way == "prefix_field":
        message["prefix"] = True
    elif way == "final_message":
        fields["add_generation_prompt"], fields["continue_final_message"] = msgspec.Raw(b"false"), msgspec.Raw(b"true")
    elif way == "instruction":
        asked = _json_asked(_decoded(fields.pop("response_format", None)))
        messages.append({"role": "user", "content": _INSTRUCTION if asked is None else f"{_INSTRUCTION} {asked}"})
    fields["messages"] = msgspec.Raw(_JSON.encode(messages))
    max_tokens = _shortened(fields, call.max_tokens, deployment.defaults, len(said.encode()) // _BYTES_A_TOKEN)
    return msgspec.structs.replace(call, body=_JSON.encode(fields), max_tokens=max_tokens)


def _way(fields: Mapping[str, msgspec.Raw], deployment: Deployment) -> Way:
    way = _WAYS.get(deployment.account.provider, "instruction")
    if _json_asked(_decoded(fields.get("response_format"))) is not None:
        return "instruction"
    if deployment.account.provider == "anthropic":
        thinks = any(name in fields or name in deployment.defaults for name in _THINKS)
        return "instruction" if thinks or _TAKES_PREFIX.match(deployment.model) is None else way
    return way


def _json_asked(wanted: object) -> str | None:
    """Say in words what `response_format` asks; `None` when it is text."""
    if not isinstance(wanted, dict) or wanted.get("type") not in {"json_object", "json_schema"}:
        return None
    given = wanted.get("json_schema")
    schema = given.get("schema") if isinstance(given, dict) else None
    asked = "Both parts together must be one JSON value, without anything around it"
    return f"{asked}." if schema is None else f"{asked}, valid by this JSON Schema: {_JSON.encode(schema).decode()}"


def _shortened(
    fields: dict[str, msgspec.Raw], max_tokens: int | None, defaults: Mapping[str, Any], said_tokens: int
) -> int | None:
    """Take what was said off the longest answer that is wanted, whoever says so."""
    for name in _LENGTHS:
        most = _decoded(fields[name]) if name in fields else defaults.get(name)
        if isinstance(most, int):
            fields[name] = msgspec.Raw(b"%d" % max(1, most - said_tokens))
    return None if max_tokens is None else max(1, max_tokens - said_tokens)


def _plain(body: bytes, names: tuple[str, ...]) -> dict[str, Any]:
    fields = _FIELDS.decode(body)
    return {name: _decoded(fields.get(name)) for name in names}


def _decoded(value: msgspec.Raw | None) -> Any:
    return None if value is None else msgspec.json.decode(value)
