"""The providers that are spoken to directly: LiteLLM's configuration classes translate, our transport carries.

A tenth of what `litellm.acompletion` costs. Each class here says what LiteLLM's own caller of that provider knows:
where to call, what belongs to the headers, and how a stream is framed and ends.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from multidict import CIMultiDict

from llmgateway.catalog.model import Deployment
from llmgateway.upstream.litellm.question import Known, Question
from llmgateway.upstream.litellm.readers.anthropic import AnthropicReader, Asked
from llmgateway.upstream.litellm.readers.cohere import CohereReader, cohere_parameters
from llmgateway.upstream.litellm.readers.gemini import GeminiReader, gemini_stopped
from llmgateway.upstream.litellm.readers.ollama import OllamaReader
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
        names: dict[str, str] = notes.get(self._names_key) or {}
        iterator = partial(self._iterator, None, False, json_mode, parameters.get("speed"), names)
        asked = {"messages": messages, "optional_params": parameters, "litellm_params": notes, "request_data": {}}
        reader = AnthropicReader(config, Asked(asked, iterator, names, self._stop, json_mode))
        return Request(self._url, sent, fields, reader)

    def is_preamble(self, event: Event) -> bool:
        return event.get("type") in {"message_start", "ping"}

    def is_last(self, event: Event) -> bool:
        return event.get("type") == "message_stop"


class GeminiWire:
    """Google AI Studio's `generateContent`; the key goes as a header, never into the address."""

    framing: Framing = "events"
    ends_at_last = False

    def __init__(self, litellm: Any, deployment: Deployment) -> None:
        from litellm.litellm_core_utils.core_helpers import map_finish_reason
        from litellm.llms.vertex_ai.common_utils import get_gemini_url
        from litellm.llms.vertex_ai.gemini.transformation import transform_request_body
        from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import ModelResponseIterator

        self._config = Config(litellm, deployment, "gemini")
        # LiteLLM annotates more than it needs: plain dictionaries and a silent logger will do.
        self._transform: Any = transform_request_body
        self._stop: Callable[[str], str] = map_finish_reason
        self._iterator: Callable[[Silent], Any] = partial(ModelResponseIterator, None, False)
        self._count: Callable[[dict[str, Any]], Any] = self._config.own.calculate_usage
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
        reader = GeminiReader(config, messages, parameters, self._iterator, count=self._count, stop=self._stop)
        return Request(self._urls[stream], self._headers, fields, reader)

    def is_preamble(self, event: Event) -> bool:
        return False

    def is_last(self, event: Event) -> bool:
        return gemini_stopped(event)


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
        return Request(self._url, self._headers, fields, OllamaReader(iterator, self._split))

    def is_preamble(self, event: Event) -> bool:
        return False

    def is_last(self, event: Event) -> bool:
        return event.get("done") is True


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
        return Request(self._url, self._headers[stream], {**fields, "stream": stream}, CohereReader())

    def is_preamble(self, event: Event) -> bool:
        return event.get("type") == "message-start"

    def is_last(self, event: Event) -> bool:
        return event.get("type") == "message-end"


WIRES: Mapping[str, Callable[[Any, Deployment], Wire]] = {
    "anthropic": AnthropicWire,
    "cohere": CohereWire,
    "cohere_chat": CohereWire,
    "gemini": GeminiWire,
    "ollama": OllamaWire,
    "ollama_chat": OllamaWire,
}
