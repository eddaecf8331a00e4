"""The shape of `gateway.yaml`: what may stand in it, checked by type and range. Unknown keys are faults."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from llmgateway.catalog.model import SecurityLevel, Strategy

Count = Annotated[int, Field(ge=1)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]
Address = Annotated[str, Field(pattern=r"^https?://[^\s/?#]+[^\s?#]*$")]
AccountName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._@+-]+$")]
TaskName = Annotated[str, Field(pattern=r"^[a-z_]{1,64}$")]
# Of a model that is added beside the file: no pattern, and nothing that could be taken for an address.
ModelName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:@+-]+(/[A-Za-z0-9._:@+-]+)*$", max_length=256)]


class Entry(BaseModel):
    """A mapping of the file: immutable, and strict about its keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, coerce_numbers_to_str=True)


class Tier(Entry):
    """How much a caller may ask, or an account or deployment may take."""

    requests_per_minute: Count | None = None
    requests_per_hour: Count | None = None
    requests_per_day: Count | None = None
    tokens_per_minute: Count | None = None
    concurrent: Count | None = None
    burst: Count | None = None
    cooldown_seconds: Amount | None = None


class ProviderEntry(Entry):
    """An account at a provider; what is left out comes from the provider's usual environment variables."""

    provider: Text
    api_key: str | None = Field(None, repr=False)
    api_base: Address | None = None
    api_version: str | None = None
    security_level: SecurityLevel | None = None
    timeout_s: Seconds | None = None
    limits: Tier = Tier()
    accept_client_keys: bool = False
    options: dict[str, Any] = Field({}, repr=False)


class PricesEntry(Entry):
    """USD per million tokens; a kind that is left out costs what the input or the output does."""

    input: Amount
    output: Amount
    cached: Amount | None = None
    cache_write: Amount | None = None
    cache_write_1h: Amount | None = None
    reasoning: Amount | None = None
    audio_input: Amount | None = None
    audio_output: Amount | None = None
    image_input: Amount | None = None
    image_output: Amount | None = None


class Probe(Entry):
    """How often a deployment is asked whether it is well."""

    interval_s: Seconds


class ModelFacts(Entry):
    """What is true of a model; a deployment's own facts go before its model's."""

    prices_per_million: PricesEntry | None = None
    context_length: Count | None = None
    max_output_tokens: Count | None = None
    capabilities: tuple[str, ...] | None = None
    tokenizer: Text | None = None
    probe: Probe | None = None


class DeploymentEntry(ModelFacts):
    """One model at one account."""

    provider: Text
    model: Text
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    limits: Tier = Tier()


class FallbacksEntry(Entry):
    """Other models to ask, by what went wrong; a cause that is left out has those of `any`, an empty list is none."""

    any: tuple[Text, ...] | None = None
    context: tuple[Text, ...] | None = None
    content_filter: tuple[Text, ...] | None = None
    rate_limit: tuple[Text, ...] | None = None


class Hedge(Entry):
    """When a second deployment is asked as well."""

    percentile: Annotated[float, Field(gt=0, lt=100)] = 95
    max_share: Annotated[float, Field(gt=0, le=1)] = 0.03


class SemanticCache(Entry):
    """Answers kept for questions that mean the same."""

    embedding_model: Text
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.95


class ModelCache(Entry):
    """How long this model's answers are kept."""

    ttl_s: Seconds


class ModelEntry(ModelFacts):
    """A name that clients ask for; with `passthrough`, a pattern of names that need no entry."""

    name: Text
    strategy: Strategy = "priority"
    deployments: tuple[DeploymentEntry, ...] = ()
    fallbacks: FallbacksEntry | None = None
    rescue: bool = False
    hedge: Hedge | None = None
    semantic_cache: SemanticCache | None = None
    drop_unsupported: bool = False
    cache: ModelCache | None = None
    defaults: dict[str, Any] = {}
    passthrough: bool = False


class AutoEntry(Entry):
    """What the model name `auto` picks from: the model of a task, and else any, or any of those that are named."""

    tasks: dict[TaskName, Text] = {}
    models: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None
    strategy: Strategy = "balanced"


class CallerLimitsEntry(Entry):
    """Limits of callers: by tier, by operation (requests a minute), by user field, by model, and of all together."""

    tiers: dict[str, Tier] = {}
    operations: dict[str, Count] = {}
    users: Tier = Tier()
    models: dict[str, Tier] = {}
    everyone: Tier = Tier()


class Webhooks(Entry):
    """How events are sent out."""

    secret: str | None = Field(None, repr=False)
    allow_private: bool = False
    alerts_url: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = Field(None, repr=False)


class CatalogFile(Entry):
    """The whole file."""

    providers: dict[AccountName, ProviderEntry] = {}
    models: tuple[ModelEntry, ...] = ()
    auto: AutoEntry | None = None
    equivalents: tuple[tuple[Text, ...], ...] | None = None
    limits: CallerLimitsEntry | None = None
    webhooks: Webhooks | None = None
    integrations: dict[str, dict[str, Any]] = {}
