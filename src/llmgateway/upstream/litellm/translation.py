"""The seam between a call and one provider's format, and what the providers' sides share: LiteLLM's configuration."""

import re
from collections.abc import Mapping
from typing import Any, Literal, Protocol

import msgspec
from multidict import CIMultiDict

from llmgateway.catalog.model import Account, Deployment
from llmgateway.upstream.litellm.pieces import Piece, answer_pieces
from llmgateway.upstream.litellm.question import Known, Question, known_parameters

Framing = Literal["events", "lines"]
Event = dict[str, Any]
# A text, and the usage so far in OpenAI's shape where the same event told it.
Plain = tuple[str, dict[str, Any] | None]


class Answered:
    """An answer as LiteLLM's classes want to see it: a few of httpx's names, at none of its cost."""

    def __init__(self, body: bytes, headers: Mapping[str, str]) -> None:
        self._body = body
        self.headers = headers
        self.status_code = 200

    @property
    def text(self) -> str:
        """The body as text."""
        return self._body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body as JSON values."""
        return msgspec.json.decode(self._body)


class Silent:
    """What LiteLLM calls its logging object; it keeps nothing of what it is told."""

    def __init__(self, optional_params: dict[str, Any]) -> None:
        self.optional_params = optional_params
        self.model_call_details: dict[str, Any] = {}

    def post_call(self, *_args: object, **_fields: object) -> None:
        """Told of each answer."""


class Reader(Protocol):
    """Reads the answer to one request."""

    def answer(self, body: bytes, headers: Mapping[str, str]) -> list[Piece]:
        """Read a whole answer: one piece per choice."""
        ...

    def plain(self, content: bytes) -> Plain | None:
        """Read an event that only goes on with the text, which most do; `None` for every other, and for what is none.

        The text is the first choice's, and not empty.
        """
        ...

    def event(self, event: Event) -> list[Piece]:
        """Read any event of a stream."""
        ...


class Request:
    """A call in its provider's form, and how its answer will be read."""

    __slots__ = ("body", "headers", "reader", "url")

    def __init__(self, url: str, headers: CIMultiDict[str], fields: Mapping[str, Any], reader: Reader) -> None:
        self.url = url
        self.headers = headers
        self.body = msgspec.json.encode(fields)
        self.reader = reader


class Wire(Protocol):
    """One deployment at a provider that is spoken to directly; made once, used by every call."""

    known: Known
    framing: Framing
    # Whether nothing follows the event that `is_last` knows; otherwise the end of the connection is waited for.
    ends_at_last: bool

    def passes(self, address: str) -> bool:
        """Tell whether an address in a message goes to the provider as it is, who fetches it itself."""
        ...

    def request(self, question: Question, *, stream: bool) -> Request:
        """Put a question into the provider's form; whatever LiteLLM raises comes out of it."""
        ...

    def is_preamble(self, event: Event) -> bool:
        """Tell an event that only announces an answer: a failure may still follow, and another deployment answer."""
        ...

    def is_last(self, event: Event) -> bool:
        """Tell the event without which a stream was cut."""
        ...


class Config:
    """LiteLLM's configuration object for a deployment, with the steps that every provider shares."""

    def __init__(self, litellm: Any, deployment: Deployment, provider: str) -> None:
        from litellm.types.utils import LlmProviders
        from litellm.utils import ProviderConfigManager

        self.litellm = litellm
        self.deployment = deployment
        self.account: Account = deployment.account
        self.model = deployment.model
        configurations: Any = ProviderConfigManager
        self.own = configurations.get_provider_chat_config(self.model, LlmProviders(provider))
        supported: list[str] = self.own.get_supported_openai_params(self.model)
        self.known = known_parameters(provider, supported, self.own)

    def parameters(self, question: Question) -> dict[str, Any]:
        """Map OpenAI's parameters to the provider's and add the provider's own."""
        mapped = self.own.map_openai_params(question.parameters, {}, self.model, self.deployment.drop_unsupported)
        return {**mapped, **question.own}

    def messages(self, question: Question) -> list[dict[str, Any]]:
        """Leave out nulls and give every message the role names that the provider knows."""
        kept = [{name: value for name, value in message.items() if value is not None} for message in question.messages]
        translated: list[dict[str, Any]] = self.own.translate_developer_role_to_system_role(kept)
        return translated

    def headers(
        self, messages: list[dict[str, Any]], parameters: dict[str, Any], notes: dict[str, Any]
    ) -> dict[str, str]:
        """Prove who we are; the catalog's own headers first."""
        return dict(
            self.own.validate_environment(
                headers=dict(self.account.options.get("extra_headers") or {}),
                model=self.model,
                messages=messages,
                optional_params=parameters,
                litellm_params=notes,
                api_key=self.account.api_key,
                api_base=self.account.api_base,
            )
        )

    def answer(self, body: bytes, headers: Mapping[str, str], **fields: Any) -> list[Piece]:
        """Let the configuration class read a whole answer."""
        response = self.own.transform_response(
            model=self.model,
            raw_response=Answered(body, headers),
            model_response=self.litellm.ModelResponse(),
            encoding=None,
            api_key="",
            **fields,
        )
        return answer_pieces(response)


def joined(base: str, version: str, place: str) -> str:
    """Put a path behind an address that may already end with its version, or with the whole path."""
    base = base.rstrip("/")
    if base.endswith(place):
        return base
    return base + place if re.search(r"/v\d\w*$|/api$", base) else base + version + place
