"""What reaches LiteLLM: an allow-list, so that no field of a client's ever chooses an address, a key or a header."""

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from llmgateway.catalog.model import Deployment
from llmgateway.errors import InvalidRequestError, UnsupportedParameterError
from llmgateway.exchange import Call

# OpenAI's own parameters of a chat. What LiteLLM says a provider supports counts only within these: its lists also
# name `extra_headers` and the like.
CHAT_PARAMETERS = frozenset(
    {
        "audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
        "max_tokens", "metadata", "modalities", "n", "parallel_tool_calls", "prediction", "presence_penalty",
        "prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "response_format", "safety_identifier",
        "seed", "service_tier", "stop", "store", "temperature", "thinking", "tool_choice", "tools", "top_logprobs",
        "top_p", "user", "verbosity", "web_search_options",
    }
)  # fmt: skip
# Ours to handle; a provider gets them in its own form.
_ENVELOPE = frozenset({"model", "messages", "prompt", "stream", "stream_options"})
# Labels and hints: the answer is the same without them, and SDKs send them everywhere. Left out in silence.
_LABELS = frozenset(
    {"metadata", "prediction", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "store", "user"}
)
# OpenAI's own defaults: a client that spells one out asks for nothing.
_DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": ("auto",),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "parallel_tool_calls": (True,),
    "presence_penalty": (0,),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "suffix": ("",),
    "tool_choice": ("auto",),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
}
# A provider's own parameters that LiteLLM takes beside those its configuration class names.
_OWN: Mapping[str, frozenset[str]] = {
    "anthropic": frozenset({"context_management", "output_config", "speed", "top_k"}),
    "bedrock": frozenset({"guardrailConfig", "performanceConfig", "requestMetadata", "top_k"}),
    "cohere": frozenset({"citation_options", "safety_mode", "strict_tools"}),
    "cohere_chat": frozenset({"citation_options", "safety_mode", "strict_tools"}),
    "gemini": frozenset({"cached_content", "safety_settings", "top_k"}),
    "ollama": frozenset({"keep_alive", "think"}),
    "ollama_chat": frozenset({"keep_alive", "think"}),
    "vertex_ai": frozenset({"cached_content", "labels", "safety_settings", "top_k"}),
}
# Parts of names that could steer where a call goes or as whom; a configuration class may name such fields too.
_STEERING = frozenset(
    {
        "address", "api", "auth", "aws", "azure", "base", "callback", "callbacks", "client", "credentials", "endpoint",
        "extra", "header", "headers", "host", "key", "litellm", "location", "mock", "profile", "project", "provider",
        "proxy", "region", "role", "secret", "space", "timeout", "token", "url", "vertex",
    }
)  # fmt: skip
_NOT_OWN = CHAT_PARAMETERS | _ENVELOPE | {"system", "template", "preamble", "chat_history"}
# Words within a part; everything else in one may be an address that some translation would fetch.
_WORDS = frozenset({"context", "description", "filename", "input", "name", "text", "thinking", "title", "type"})
_ADDRESS = re.compile(r"\s*(?:(?:https?|ftps?|wss?|file|blob|gs|s3):|[a-z][a-z0-9+.-]*://)", re.IGNORECASE)
_NAME_PARTS = re.compile(r"_|(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Known:
    """The parameters that a deployment's provider takes: OpenAI's, and its own."""

    openai: frozenset[str]
    own: frozenset[str]


@dataclass(frozen=True, slots=True)
class Question:
    """A chat request, checked: nothing in it but messages and parameters that the provider is known to take.

    Args:
        messages: OpenAI's messages; belongs to this call alone, so a translation may change it in place.
        parameters: OpenAI's, to be mapped.
        own: The provider's own, sent as they are.
    """

    messages: list[dict[str, Any]]
    parameters: dict[str, Any]
    own: dict[str, Any]


def known_parameters(provider: str, supported: list[str], config: object) -> Known:
    """Work out the allow-list from what LiteLLM says a provider supports and what its configuration class declares."""
    declared = {name for kind in type(config).__mro__ for name in vars(kind).get("__annotations__", ())}
    own = {name for name in declared if not name.startswith("_") and not _steers(name)}
    return Known(
        openai=CHAT_PARAMETERS & set(supported),
        own=frozenset(own - _NOT_OWN) | _OWN.get(provider, frozenset()),
    )


def read_question(call: Call, deployment: Deployment, known: Known) -> Question:
    """Check a chat or completion call against the allow-list.

    Raises:
        UnsupportedParameterError: A parameter that the provider does not have, and the model does not drop it.
        InvalidRequestError: A prompt that is not one text.
    """
    # A translation may change what it is given in place, and the defaults belong to every call.
    body = {**copy.deepcopy(dict(deployment.defaults)), **msgspec.json.decode(call.body)}
    parameters: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for name, value in body.items():
        if name in _ENVELOPE or _asks_nothing(value):
            continue
        if name in known.openai:
            parameters[name] = value
        elif name in known.own:
            own[name] = value
        elif not _may_go(name, value, deployment):
            raise unsupported(name, deployment)
    messages = body["messages"] if call.operation == "chat" else _prompt_messages(body.get("prompt"))
    return Question(messages, parameters, own)


def unsupported(name: str, deployment: Deployment) -> UnsupportedParameterError:
    """Say that a provider does not take a parameter, and what to do about it."""
    return UnsupportedParameterError(
        f"{deployment.account.provider} does not take the parameter '{name}' for {deployment.model}. "
        "Leave it out, or set drop_unsupported for this model in the catalog.",
        param=name,
    )


def refuse_remote_media(messages: list[dict[str, Any]], passes: Callable[[str], bool]) -> None:
    """Refuse addresses in message parts that this provider would not fetch itself: nothing is fetched from here.

    The function `passes` says whether an address goes to the provider as it is.

    Raises:
        InvalidRequestError: Such an address; `param` is its path.
    """
    for number, message in enumerate(messages):
        content = message.get("content")
        for place, value in _leaves(content, "content") if isinstance(content, list) else ():
            if _is_address(value) and not passes(value):
                raise InvalidRequestError(
                    "This provider cannot fetch media from an address, and the gateway never does. "
                    "Send the content itself as a data: URI, such as data:image/png;base64,...",
                    param=f"messages[{number}].{place}",
                )


def _steers(name: str) -> bool:
    return not _STEERING.isdisjoint(part.lower() for part in _NAME_PARTS.split(name))


def _asks_nothing(value: object) -> bool:
    return value is None or value in ([], {})


def _may_go(name: str, value: object, deployment: Deployment) -> bool:
    return name in _LABELS or value in _DEFAULTS.get(name, ()) or deployment.drop_unsupported


def _prompt_messages(prompt: object) -> list[dict[str, Any]]:
    texts = [prompt] if isinstance(prompt, str) else prompt
    if isinstance(texts, list) and len(texts) == 1 and isinstance(texts[0], str):
        return [{"role": "user", "content": texts[0]}]
    raise InvalidRequestError(
        "This provider takes one text as prompt: send a string, and several prompts as several requests.",
        param="prompt",
    )


def _leaves(value: object, place: str) -> Iterator[tuple[str, str]]:
    match value:
        case str():
            yield place, value
        case dict():
            for name, inner in value.items():
                if name not in _WORDS and not (name == "content" and isinstance(inner, str)):
                    yield from _leaves(inner, f"{place}.{name}")
        case list():
            for number, inner in enumerate(value):
                yield from _leaves(inner, f"{place}[{number}]")
        case _:
            return


def _is_address(value: str) -> bool:
    """Tell an address from data, an id and plain base64, which holds no colon."""
    return _ADDRESS.match(value) is not None and not value.startswith("data:")
