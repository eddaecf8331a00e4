"""Exchanges that have ended, as the recorder sees them; the text of a scrape read back; waiting for either."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from llmgateway.catalog.model import Account, Deployment
from llmgateway.exchange import Attempt, Exchange, Usage

MAIN = Deployment(Account("main", "openai", "openai"), "gpt-4o")
SPARE = Deployment(Account("spare", "anthropic", "litellm"), "claude")

# One attempt: where, its seconds, its outcome; a stream's first chunk after so many seconds.
Tried = tuple[Deployment, float, str | None]


def ended(
    *tried: Tried, took_s: float = 2.0, first_chunk_s: float | None = None, usage: Usage | None = None, **fields: Any
) -> Exchange:
    """Make an exchange that took `took_s` seconds, its attempts one after the other at the end of them."""
    now = time.perf_counter()
    attempts: list[Attempt] = []
    begin = now - sum(seconds for _, seconds, _ in tried)
    for deployment, seconds, outcome in tried:
        attempts.append(Attempt(deployment, begin, begin + seconds, outcome=outcome))
        begin += seconds
    exchange = Exchange(started=now - took_s, ended=now, operation="chat", model_label="chat", status=200, usage=usage)
    exchange.attempts = attempts
    if attempts:
        exchange.provider = attempts[-1].provider
        if first_chunk_s is not None:
            attempts[-1].first_chunk = exchange.started + first_chunk_s
    for name, value in fields.items():
        setattr(exchange, name, value)
    return exchange


async def until(holds: Callable[[], bool | Awaitable[bool]], within_s: float = 15.0) -> None:
    """Wait until something is so that happens in a thread or a timer; `TimeoutError` when it never is."""
    with anyio.fail_after(within_s):
        while True:
            held = holds()
            if held if isinstance(held, bool) else await held:
                return
            await anyio.sleep(0.01)


def scraped(text: bytes) -> "Scrape":
    """Read Prometheus text with the client's own parser."""
    return Scrape(list(text_string_to_metric_families(text.decode())))


def scraped_open(text: bytes) -> "Scrape":
    """Read OpenMetrics with the client's own strict parser."""
    return Scrape(list(openmetrics.text_string_to_metric_families(text.decode())))  # type: ignore[no-untyped-call]


class Scrape:
    """What a scrape showed."""

    def __init__(self, families: list[Any]) -> None:
        self.types = {family.name: family.type for family in families}
        self.samples = [sample for family in families for sample in family.samples]

    def of(self, name: str, **labels: str) -> float | None:
        """Add up the samples with at least these labels; `None` when there is none."""
        found = [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]
        return sum(found) if found else None

    def labels(self, name: str, label: str) -> set[str]:
        return {sample.labels[label] for sample in self.samples if sample.name == name}

    def lasting(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Give every sample that must never go backwards."""
        ends = ("_total", "_count", "_bucket")
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for s in self.samples if s.name.endswith(ends)}
