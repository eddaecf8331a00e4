"""What is on offer, as immutable values: accounts at providers, deployments, and the models that clients name."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from msgspec import Struct

Wire = Literal["openai", "azure", "litellm", "demo"]
SecurityLevel = Literal["low", "medium", "high"]
Origin = Literal["file", "environment", "database", "built_in"]
Strategy = Literal["priority", "weighted", "round_robin", "least_busy", "fastest", "cheapest", "balanced"]
# The name under which clients leave the choice of a model to the gateway.
AUTO = "auto"
# What a call may need, and a deployment not have.
CALL_NEEDS = frozenset({"vision", "audio", "audio_output", "pdf", "tools", "json_schema", "reasoning", "streaming"})
EMPTY: Mapping[str, Any] = MappingProxyType({})


def empty() -> Mapping[str, Any]:
    """Give the one empty mapping: dataclasses take no mapping as a default before Python 3.12."""
    return EMPTY


class Limits(Struct, frozen=True, gc=False):
    """How much a caller may ask, or an account or deployment may take; `None` is no limit.

    Args:
        concurrent: Calls at once.
        burst: Requests at once on top of the steady rate of a minute; `None` is a sixth of it.
        cooldown_seconds: Rest after too many refusals in a row.
    """

    requests_per_minute: int | None = None
    requests_per_hour: int | None = None
    requests_per_day: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    burst: int | None = None
    cooldown_seconds: float | None = None


NO_LIMITS = Limits()


class CallerLimits(Struct, frozen=True):
    """The catalog's limits of callers.

    Args:
        tiers: By name; keys name one.
        operations: Requests a minute of each caller, by operation.
        users: Of each `user` field within its caller's organization.
        models: Of all callers together, by the model's name.
        everyone: Of all callers and models together.
    """

    tiers: Mapping[str, Limits]
    operations: Mapping[str, int]
    users: Limits = NO_LIMITS
    models: Mapping[str, Limits] = MappingProxyType({})
    everyone: Limits = NO_LIMITS


class SemanticCaching(Struct, frozen=True):
    """Answers of a model are kept for questions that mean the same, as this model for embeddings has it."""

    embedding_model: str
    threshold: float = 0.95


class Fallbacks(Struct, frozen=True):
    """Names of other models to ask, best first, by what went wrong; `None` is not given, and empty is none."""

    any: tuple[str, ...] | None = None
    context: tuple[str, ...] | None = None
    content_filter: tuple[str, ...] | None = None
    rate_limit: tuple[str, ...] | None = None


class Hedging(Struct, frozen=True):
    """When a second deployment is asked as well.

    Args:
        percentile: Of the first one's usual times to the first token: who takes longer is not waited for alone.
        max_share: Of the model's requests that may cost two.
    """

    percentile: float = 95.0
    max_share: float = 0.03


class Auto(Struct, frozen=True):
    """What the name `auto` picks from.

    Args:
        tasks: The name of the model for each type of task.
        models: Names of those to pick from; `None` is all that the catalog names.
    """

    tasks: Mapping[str, str] = MappingProxyType({})
    models: tuple[str, ...] | None = None
    strategy: Strategy = "balanced"


@dataclass(frozen=True, slots=True)
class Account:
    """One account at a provider: where it is and how we prove who we are.

    Args:
        name: The catalog's own name for it.
        provider: LiteLLM's provider name, such as `openai` or `bedrock`.
        wire: How it is spoken to: OpenAI's wire as it is, Azure's form of it, through LiteLLM, or built in.
        api_base: Without a trailing slash, e.g. `https://api.openai.com/v1`; `None` leaves it to LiteLLM.
        options: Further LiteLLM parameters from the catalog, such as `aws_region_name` or `vertex_project`.
        renames: Fields that this provider of OpenAI's wire calls by another name, and refuses by OpenAI's.
        takes_stream_options: Whether a stream may be asked for its usage there.
        accepts_client_keys: Whether callers may come with their own key of this provider (auth mode hybrid).
    """

    name: str
    provider: str
    wire: Wire
    api_key: str | None = field(default=None, repr=False)
    api_base: str | None = None
    api_version: str | None = None
    security_level: SecurityLevel = "medium"
    timeout_s: float | None = None
    limits: Limits = NO_LIMITS
    options: Mapping[str, Any] = field(default_factory=empty, repr=False)
    renames: Mapping[str, str] = field(default_factory=empty)
    takes_stream_options: bool = True
    accepts_client_keys: bool = False


class Prices(Struct, frozen=True, gc=False):
    """USD per ONE token, by kind; `None` where a kind costs what its side does. A struct: there are some thousands.

    Args:
        cached: Read from the provider's cache.
        cache_write: Kept by the provider for five minutes; `None` is the input's price.
        cache_write_1h: Kept for an hour; `None` is the price of five minutes.
        above: What all tokens of a request cost whose prompt is longer than so many tokens; the longest comes first.
        tiers: Prices of the provider's other service tiers by name, such as `batch`, `flex` and `priority`.
    """

    input: float
    output: float
    cached: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None
    reasoning: float | None = None
    audio_input: float | None = None
    audio_output: float | None = None
    image_input: float | None = None
    image_output: float | None = None
    above: "tuple[tuple[int, Prices], ...]" = ()
    tiers: "tuple[tuple[str, Prices], ...]" = ()

    def for_request(self, prompt_tokens: int, service_tier: str | None) -> "Prices":
        """Give the prices that hold for the whole of a request."""
        prices = self
        if service_tier is not None and self.tiers:
            prices = next((other for name, other in self.tiers if name == service_tier), self)
        for tokens, dearer in prices.above:
            if prompt_tokens > tokens:
                return dearer
        return prices


@dataclass(frozen=True, slots=True)
class Deployment:
    """One model at one account: what an attempt is made at.

    Args:
        model: The name the provider knows, e.g. `gpt-4o`.
        capabilities: What it is known to have.
        lacks: What it is known not to have, of those that a call may need.
        tokenizer: The path of a Hugging Face tokenizer.json, or the name of one of tiktoken's encodings; `None` is
            what is usual for the model.
        probe_s: How often it is asked whether it is well, in seconds; `None` is never.
        defaults: Body fields sent unless the client sets them (the model's, from the catalog).
        drop_unsupported: Leave out parameters the provider does not have, instead of refusing the call.
        row_id: Of its row in the database; `None` is the file's, or derived from a name.
    """

    account: Account
    model: str
    weight: float = 1.0
    context_length: int | None = None
    max_output_tokens: int | None = None
    capabilities: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    prices: Prices | None = None
    tokenizer: str | None = None
    probe_s: float | None = None
    limits: Limits = NO_LIMITS
    defaults: Mapping[str, Any] = field(default_factory=empty)
    drop_unsupported: bool = False
    row_id: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A name that clients ask for, and the deployments that answer, best first.

    Args:
        well_known: Whether the catalog or LiteLLM's table has the name; others were made up by a client, and there is
            no end of them.
        in_catalog: Whether the catalog's file or the database names it; others follow from a pattern.
        fallbacks: Other models to ask; `None` says nothing, and then equivalents of a model of the catalog are.
        rescue: Whether another deployment goes on with a stream that broke.
        cache_ttl_s: How long its answers are kept; `None` is as long as the settings say.
    """

    name: str
    deployments: tuple[Deployment, ...]
    strategy: Strategy = "priority"
    well_known: bool = True
    in_catalog: bool = True
    fallbacks: Fallbacks | None = None
    rescue: bool = False
    hedge: Hedging | None = None
    cache_ttl_s: float | None = None
    semantic: SemanticCaching | None = None

    @property
    def label(self) -> str:
        """The name for metrics, which must be few."""
        return self.name if self.well_known else "other"


@dataclass(frozen=True, slots=True)
class ListedModel:
    """One entry of the list of models.

    Args:
        created: Unix seconds; a fixed date, because no provider tells.
        pricing: USD per ONE token as strings that lose no digit, such as `{"prompt": "0.0000025"}`; empty when unknown.
        providers: LiteLLM's names of the providers that answer for it.
        demo: Whether it is built in and answers without a model.
    """

    id: str
    created: int
    owned_by: str
    context_length: int | None = None
    max_output_tokens: int | None = None
    pricing: Mapping[str, str] = field(default_factory=empty)
    capabilities: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    demo: bool = False
