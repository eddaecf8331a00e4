"""The providers that are spoken to directly: LiteLLM's configuration classes translate, our transport carries.

A tenth of what `litellm.acompletion` costs. Each class here says what LiteLLM's own caller of that provider knows:
where to call, what belongs to the headers, and how a stream is framed and ends.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from multidict import CIMultiDict

from llmgateway.catalog.model import Deployment
from llmgateway.upstream.litellm.own_readers import (
    anthropic_answer,
    anthropic_usage,
    cohere_answer,
    cohere_event,
    cohere_parameters,
)
from llmgateway.upstream.litellm.pieces import Piece, Tool, pieces_of
from llmgateway.upstream.litellm.question import Known, Question
from llmgateway.upstream.litellm.translation import Config, Event, Framing, Request, Silent, Wire, joined

_GEMINI_FILES = "https://generativelanguage.googleapis.com/v1beta/files/"


class AnthropicWire:
    """Anthropic's Messages API."""

    framing: Framing = "events"
    ends_at_last = True
    # With nothing else asked for, the headers say only who we are: they cost as much as the rest of the translation.
    _PLAIN = frozenset({"max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "metadata"})

    def __init__(self, litellm: Any, deployment: Deployment) -> None:
        from litellm.anthropic_beta_headers_manager import update_request_with_filtered_beta
        from litellm.litellm_core_utils.core_helpers import map_finish_reason
        from litellm.llms.anthropic.chat.handler import ModelResponseIterator
        from litellm.llms.anthropic.chat.transformation import ANTHROPIC_TOOL_NAME_REVERSE_MAP_KEY

        self._config = Config(litellm, deployment, "anthropic")
        self._filter = update_request_with_filtered_beta
        self._iterator = ModelResponseIterator
        self._stop: Callable[[str], str] = map_finish_reason
        self._names_key = ANTHROPIC_TOOL_NAME_REVERSE_MAP_KEY
        self._plain_headers: CIMultiDict[str] | None = None
        self.known = self._config.known
        self._url = joined(deployment.account.api_base or "https://api.anthropic.com", "/v1", "/messages")

    def passes(self, address: str) -> bool:
        return address.startswith("https://")

    def request(self, question: Question, *, stream: bool) -> Request:
        config = self._config
        messages, parameters = config.messages(question), config.parameters(question)
        json_mode = bool(parameters.pop("json_mode", False))
        sent_as = {**parameters, "is_vertex_request": False}
        notes: dict[str, Any] = {}
        plain = self._PLAIN.issuperset(parameters) and all(isinstance(one.get("content"), str) for one in messages)
        headers = {} if plain and self._plain_headers is not None else config.headers(messages, sent_as, notes)
        fields = config.own.transform_request(config.model, messages, sent_as, notes, headers)
        sent = self._plain_headers if plain else None
        if sent is None:
            headers, fields = self._filter(headers=headers, request_data=fields, provider="anthropic")
            sent = CIMultiDict(headers)
            if plain:
                self._plain_headers = sent
        if stream:
            fields["stream"] = True
        names = notes.get(self._names_key)
        iterator = self._iterator(None, False, json_mode, parameters.get("speed"), names)
        asked = {"messages": messages, "optional_params": parameters, "litellm_params": notes, "request_data": {}}
        return Request(self._url, sent, fields, _AnthropicReader(config, asked, iterator, self._stop))

    def is_preamble(self, event: Event) -> bool:
        return event.get("type") in {"message_start", "ping"}

    def is_last(self, event: Event) -> bool:
        return event.get("type") == "message_stop"


class _AnthropicReader:
    def __init__(self, config: Config, asked: dict[str, Any], iterator: Any, stop: Callable[[str], str]) -> None:
        self._config = config
        self._asked = asked
        self._iterator = iterator
        self._stop = stop
        self._usage: dict[str, Any] = {}

    def answer(self, body: bytes, headers: Mapping[str, str]) -> list[Piece]:
        root = msgspec.json.decode(body)
        plain = not self._iterator.json_mode and not self._asked["messages"][-1].get("prefix")
        pieces = anthropic_answer(root, self._iterator.tool_name_reverse_map, self._stop) if plain else None
        if pieces is None:
            json_mode = self._iterator.json_mode
            pieces = self._config.answer(body, headers, logging_obj=Silent({}), json_mode=json_mode, **self._asked)
            pieces[-1].usage = anthropic_usage(root["usage"])
        return pieces

    def event(self, event: Event) -> list[Piece]:
        # Most events are these, and LiteLLM's reader keeps nothing of them: it takes 60 µs, this takes one.
        delta = event.get("delta")
        if isinstance(delta, dict) and delta.get("type") == "text_delta":
            return [Piece(content=delta["text"])]
        pieces = pieces_of(self._iterator.chunk_parser(event))
        # It would count their tokens on the event loop, for a number that the provider did not give.
        self._iterator.reasoning_content_chunks.clear()
        usage = event.get("usage") or event.get("message", {}).get("usage")
        if usage:
            self._usage |= usage
            pieces[-1].usage = anthropic_usage(self._usage)
        return pieces


class GeminiWire:
    """Google AI Studio's `generateContent`; the key goes as a header, never into the address."""

    framing: Framing = "events"
    ends_at_last = False

    def __init__(self, litellm: Any, deployment: Deployment) -> None:
        from litellm.llms.vertex_ai.common_utils import get_gemini_url
        from litellm.llms.vertex_ai.gemini.transformation import transform_request_body
        from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import ModelResponseIterator

        self._config = Config(litellm, deployment, "gemini")
        # LiteLLM annotates more than it needs: plain dictionaries and a silent logger will do.
        self._transform: Any = transform_request_body
        self._iterator: Any = ModelResponseIterator
        self.known = self._config.known
        base = deployment.account.api_base
        place = f"/models/{deployment.model}"
        methods = {True: ":streamGenerateContent?alt=sse", False: ":generateContent"}
        self._urls: dict[bool, str] = {
            stream: joined(base, "/v1beta", place + method)
            if base
            else get_gemini_url("chat", deployment.model, stream)[0]
            for stream, method in methods.items()
        }
        key = {"x-goog-api-key": deployment.account.api_key or ""}
        self._headers = CIMultiDict({**key, **(deployment.account.options.get("extra_headers") or {})})

    def passes(self, address: str) -> bool:
        return address.startswith(_GEMINI_FILES)

    def request(self, question: Question, *, stream: bool) -> Request:
        config = self._config
        messages, parameters = config.messages(question), config.parameters(question)
        notes: dict[str, Any] = {}
        asked = dict(parameters)
        fields = self._transform(messages, config.model, asked, "gemini", notes, asked.pop("cached_content", None))
        iterator = self._iterator(None, False, Silent(parameters))
        return Request(self._urls[stream], self._headers, fields, _GeminiReader(config, messages, parameters, iterator))

    def is_preamble(self, event: Event) -> bool:
        return False

    def is_last(self, event: Event) -> bool:
        return _gemini_stopped(event)


class _GeminiReader:
    def __init__(
        self, config: Config, messages: list[dict[str, Any]], parameters: dict[str, Any], iterator: Any
    ) -> None:
        self._config = config
        self._asked = {"messages": messages, "optional_params": parameters, "litellm_params": {}, "request_data": {}}
        self._parameters = parameters
        self._iterator = iterator

    def answer(self, body: bytes, headers: Mapping[str, str]) -> list[Piece]:
        return self._config.answer(body, headers, logging_obj=Silent(self._parameters), **self._asked)

    def event(self, event: Event) -> list[Piece]:
        stopped = _gemini_stopped(event)
        pieces = pieces_of(self._iterator.chunk_parser(event))
        for piece in pieces if not stopped else ():
            piece.finish = None  # LiteLLM's reader says `stop` where Google says nothing
        return pieces


def _gemini_stopped(event: Event) -> bool:
    ended = any(candidate.get("finishReason") for candidate in event.get("candidates") or ())
    return ended or "blockReason" in (event.get("promptFeedback") or {})


class OllamaWire:
    """Ollama's `/api/chat`, also where the catalog says `ollama`: LiteLLM makes one prompt of that and loses tools."""

    framing: Framing = "lines"
    ends_at_last = True

    def __init__(self, litellm: Any, deployment: Deployment) -> None:
        from litellm.litellm_core_utils.prompt_templates.common_utils import parse_content_for_reasoning

        self._config = Config(litellm, deployment, "ollama_chat")
        self._split: Callable[[str], tuple[str | None, str | None]] = parse_content_for_reasoning
        self.known = self._config.known
        base = deployment.account.api_base or "http://localhost:11434"
        self._url = joined(base.removesuffix("/v1"), "/api", "/chat")
        self._headers = CIMultiDict(self._config.headers([], {}, {}))

    def passes(self, address: str) -> bool:
        return False

    def request(self, question: Question, *, stream: bool) -> Request:
        config = self._config
        messages, parameters = config.messages(question), {**config.parameters(question), "stream": stream}
        fields = config.own.transform_request(config.model, messages, parameters, {}, {})
        iterator = config.own.get_model_response_iterator(streaming_response=None, sync_stream=False)
        return Request(self._url, self._headers, fields, _OllamaReader(iterator, self._split))

    def is_preamble(self, event: Event) -> bool:
        return False

    def is_last(self, event: Event) -> bool:
        return event.get("done") is True


class _OllamaReader:
    def __init__(self, iterator: Any, split: Callable[[str], tuple[str | None, str | None]]) -> None:
        self._iterator = iterator
        self._split = split

    def answer(self, body: bytes, headers: Mapping[str, str]) -> list[Piece]:
        """Read it as a stream of one event: LiteLLM's reader of whole answers counts tokens each time, for nothing."""
        event = msgspec.json.decode(body)
        message = event["message"]
        if not message.get("thinking") and message.get("content"):
            message["thinking"], message["content"] = self._split(message["content"])
        [piece] = self.event(event)
        return [piece]

    def event(self, event: Event) -> list[Piece]:
        event.setdefault("message", {})
        [piece] = pieces_of(self._iterator.chunk_parser(event))
        if piece.tools:
            # Each comes whole; Ollama numbers none of them.
            piece.tools = [Tool(None, tool.id, tool.name, tool.arguments) for tool in piece.tools]
        return [piece]


class CohereWire:
    """Cohere's chat, API v2."""

    framing: Framing = "events"
    ends_at_last = True

    def __init__(self, litellm: Any, deployment: Deployment) -> None:
        self._config = Config(litellm, deployment, "cohere_chat")
        known = self._config.known
        self.known = Known(known.openai | {"response_format"}, known.own)
        base = (deployment.account.api_base or "https://api.cohere.com").removesuffix("/chat")
        self._url = joined(base, "/v2", "/chat")
        headers = self._config.headers([], {}, {})
        self._headers: dict[bool, CIMultiDict[str]] = {
            stream: CIMultiDict({**headers, "accept": "text/event-stream" if stream else "application/json"})
            for stream in (True, False)
        }

    def passes(self, address: str) -> bool:
        return address.startswith("https://")

    def request(self, question: Question, *, stream: bool) -> Request:
        config = self._config
        messages, parameters = config.messages(question), config.parameters(question)
        parameters |= cohere_parameters(question.parameters)
        fields = config.own.transform_request(config.model.removeprefix("v2/"), messages, parameters, {}, {})
        return Request(self._url, self._headers[stream], {**fields, "stream": stream}, _CohereReader())

    def is_preamble(self, event: Event) -> bool:
        return event.get("type") == "message-start"

    def is_last(self, event: Event) -> bool:
        return event.get("type") == "message-end"


class _CohereReader:
    def answer(self, body: bytes, headers: Mapping[str, str]) -> list[Piece]:
        return cohere_answer(msgspec.json.decode(body))

    def event(self, event: Event) -> list[Piece]:
        return cohere_event(event)


WIRES: Mapping[str, Callable[[Any, Deployment], Wire]] = {
    "anthropic": AnthropicWire,
    "cohere": CohereWire,
    "cohere_chat": CohereWire,
    "gemini": GeminiWire,
    "ollama": OllamaWire,
    "ollama_chat": OllamaWire,
}
