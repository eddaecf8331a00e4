"""Who calls: what a key says of whoever holds it, and what the headers of a request ask for."""

from fnmatch import fnmatchcase
from typing import Literal

from msgspec import Struct
from typing_extensions import override

from llmgateway.catalog.model import Limits, Strategy

Kind = Literal["anyone", "shared", "client", "provider", "admin"]
Period = Literal["day", "week", "month", "total"]


class Budget(Struct, frozen=True, gc=False):
    """Money in a period, in US dollars; the period is the calendar's, in UTC, and weeks begin on Monday.

    Args:
        usd: The hard limit: no call begins that would pass it.
        soft_usd: From here on an alert is sent, and nothing else happens.
    """

    usd: float
    period: Period = "month"
    soft_usd: float | None = None


class Caller(Struct, frozen=True, kw_only=True, cache_hash=True):
    """Whoever sends a request.

    Args:
        kind: `anyone` in auth mode none; `shared` with a gateway key; `client` with a key of its own; `provider` with a
            provider's key; `admin`.
        key_id: The key's id, never the key; of a shared one the beginning of its hash.
        organization: The key's own; `None` is none.
        models: Globs of the models it may use; `None` is all.
        tier: The catalog's tier whose limits hold where `limits` says nothing; `None` is the default one.
        strategy: How its calls choose among a model's deployments; `None` is as the catalog says.
        most_urgent: The most urgent priority of jobs that it may ask for; a flavor may have a more urgent one itself.
        provider: LiteLLM's name of the provider whose key came, for kind `provider`.
        provider_key: That key; written down nowhere, in memory with the heads of the last calls.
    """

    kind: Kind = "anyone"
    key_id: str | None = None
    organization: str | None = None
    models: tuple[str, ...] | None = None
    tier: str | None = None
    limits: Limits | None = None
    budget: Budget | None = None
    organization_limits: Limits | None = None
    organization_budget: Budget | None = None
    strategy: Strategy | None = None
    most_urgent: int = 3
    provider: str | None = None
    provider_key: str | None = None

    @override
    def __repr__(self) -> str:
        return f"Caller({self.kind}, {self.key_id})"

    def may_use(self, model: str) -> bool:
        """Whether a model's name is one of the caller's. A pattern never matches across a provider's prefix."""
        return self.models is None or any(_matches(model, pattern) for pattern in self.models)


ANYONE = Caller()


def _matches(model: str, pattern: str) -> bool:
    if pattern == "*":
        return True
    prefix, slash, rest = pattern.partition("/")
    its_prefix, its_slash, its_rest = model.partition("/")
    if slash != its_slash:
        return False
    return prefix == its_prefix and fnmatchcase(its_rest, rest) if slash else fnmatchcase(model, pattern)


class CacheAsk(Struct, frozen=True, gc=False):
    """What a client says of the cache: `Cache-Control: no-cache | no-store`, `X-Cache-TTL`."""

    no_cache: bool = False
    no_store: bool = False
    ttl_s: float | None = None


class RouteAsk(Struct, frozen=True, gc=False):
    """What a client says of the way: `X-Route-Strategy`, `X-Max-Cost-USD`, `X-Disable-Fallbacks`, `X-Task-Type`.

    Args:
        alone: Only the first choice is asked, whatever becomes of it.
    """

    strategy: Strategy | None = None
    max_cost_usd: float | None = None
    alone: bool = False
    task: str | None = None
