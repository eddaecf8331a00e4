"""What is asked of the ledger and what it answers: values only, so that whoever asks needs no database library."""

from typing import Literal

from msgspec import Struct, field

from llmgateway.storage.entry import LedgerEntry

Group = Literal["model", "key", "organization", "provider", "day", "user", "operation"]

MOST_GROUPS = 5_000


class StorageAwayError(OSError):
    """The database cannot be asked now; the same may work later."""


class TooManyGroupsError(ValueError):
    """More groups than one answer takes: ask for a shorter time or fewer groups."""


class UsageTotals(Struct):
    """What one group used.

    Args:
        group: The group's value by its kind, in the order asked for; a day is `2026-11-21`, in UTC.
        errors: Requests whose status is 400 or more, or whose stream broke off.
        cached_tokens, reasoning_tokens: Part of the prompt's and of the completion's.
        cost_usd: Of the requests whose cost is known; `None` when that is none.
        unpriced_requests: Those whose cost is unknown though tokens were used.
        estimated_requests: Those whose tokens were counted here, because the upstream told none.
    """

    group: dict[str, str | None]
    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cost_usd: float | None
    unpriced_requests: int
    estimated_requests: int


class ProviderPerformance(Struct):
    """How one account served.

    Args:
        provider: `None` gathers the requests that reached no provider.
        success_rate: Of the requests that the client waited for; `None` when it waited for none.
        tokens_per_second: Completion tokens per second of waiting for the provider, over the successful requests.
        error_breakdown: Requests by their error's code.
    """

    provider: str | None
    requests: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    success_rate: float | None
    tokens_per_second: float | None
    error_breakdown: dict[str, int] = field(default_factory=dict)


class Performance(Struct):
    """The slowest requests, slowest first, and each account by its name."""

    slow_requests: list[LedgerEntry]
    by_provider: list[ProviderPerformance]
    threshold_seconds: float


class Trend(Struct):
    """One hour, in UTC; an hour without requests is not there.

    Args:
        hour: When it began, `2026-11-21T14:00:00Z`.
        cost_usd: Of the requests whose cost is known; `None` when that is none.
    """

    hour: str
    requests: int
    errors: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    average_ms: float
    p95_ms: float


class CostShare(Struct):
    """What one provider, user or model cost.

    Args:
        name: `None` gathers the requests without one.
        cost_usd: Of the requests whose cost is known; `None` when that is none.
    """

    name: str | None
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_usd: float | None
    unpriced_requests: int


class Spent(Struct):
    """What one deployment cost under one model's name, in requests whose prompts are about as long.

    Args:
        model: As it was asked for; `other` gathers names that are not well known.
        provider: The account's name in the catalog.
        cached_tokens, cache_write_tokens: Part of the prompt's; `reasoning_tokens` of the completion's.
        audio_tokens, image_tokens: Part of either: the ledger does not tell them apart.
        longest_prompt_tokens, longest_answer_tokens: Of one request.
    """

    model: str
    provider: str
    upstream_model: str
    requests: int
    cost_usd: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    audio_tokens: int = 0
    image_tokens: int = 0
    longest_prompt_tokens: int = 0
    longest_answer_tokens: int = 0


class Costs(Struct):
    """Who and what the money went to, dearest first; at most `count` of each.

    Args:
        spent: What the deployments cost that cost something.
    """

    cost_usd: float | None
    unpriced_requests: int
    by_provider: list[CostShare]
    by_user: list[CostShare]
    by_model: list[CostShare]
    most_expensive: list[LedgerEntry]
    spent: list[Spent] = []
