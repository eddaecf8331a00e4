"""Counts a model call when it is written down: one look-up gives all that its labels have, the rest is adding."""

import time

from llmgateway import errors
from llmgateway.exchange import Event, Exchange, Usage, upstream_s
from llmgateway.telemetry.metrics.series import OTHER, Series, Sketch

NO_PROVIDER = "none"
_GONE = errors.ClientGoneError.code
_LIMITED = frozenset({errors.RateLimitedError.code, errors.BudgetSpentError.code})
_RESTING = frozenset({errors.NoHealthyDeploymentError.code, errors.UpstreamRateLimitedError.code})
_SERVER_ERROR = 500
# A provider's own code may be passed on as an error's: only ours are told apart.
_OUTCOMES = frozenset({"ok", "cancelled", "superseded", *(getattr(errors, name).code for name in errors.__all__)})
# Sets of labels that are kept bound: many more than any catalog has, and a limit to what names made up can hold.
_MOST_BOUND = 10_000

_Labels = tuple[str, str, str | None, int | None, bool]


class Counting:
    """Adds exchanges up; the event loop's thread only.

    Args:
        series: Where the numbers are.
        times: Where the duration of every request goes, for percentiles.
    """

    def __init__(self, series: Series, times: Sketch) -> None:
        self._series = series
        self._times = times
        self._endings: dict[_Labels, _Ending] = {}
        self._tried: dict[tuple[str, str, str | None], _Tried] = {}
        self._cached = {
            result.upper(): series.counter("llm_cache_requests_total", result)
            for result in ("hit", "miss", "bypass", "coalesced")
        }
        decisions = "llm_rate_limit_decisions_total"
        self._allowed, self._limited = series.counter(decisions, "allowed"), series.counter(decisions, "limited")
        self._sensitive = {
            action: series.counter("llm_sensitivity_decisions_total", action)
            for action in ("none", "reroute", "refuse", "redact")
        }
        self._left_early = series.counter("llm_client_disconnects_total", "before_first_byte")
        self._left_streaming = series.counter("llm_client_disconnects_total", "streaming")

    def record(self, exchange: Exchange) -> None:
        """Count an exchange that has ended; what is no model call is none of ours."""
        operation = exchange.operation
        if operation is None:
            return
        provider = exchange.provider or _left_alone(exchange)
        labels = (operation, exchange.model_label, provider, exchange.status, exchange.stream)
        ending = self._endings.get(labels) or self._bind(labels)
        ended = time.perf_counter() if exchange.ended is None else exchange.ended
        duration_s, attempts = ended - exchange.started, exchange.attempts
        waited_s = upstream_s(attempts, ended) + exchange.job_s
        ending.requests.value += 1
        ending.duration.observe(duration_s)
        ending.overhead.observe(duration_s - waited_s if duration_s > waited_s else 0.0)
        self._count_way(exchange, ended)
        self._times.add(duration_s)
        if exchange.usage is not None:
            ending.spent.add(exchange.usage, exchange.cost_usd)
        if exchange.stream and attempts:
            self._count_stream(exchange, ending)
        cached = self._cached.get(exchange.cache_status)
        if cached is not None:
            cached.value += 1
        if exchange.requests_left is not None or exchange.tokens_left is not None:
            (self._limited if exchange.error_code in _LIMITED else self._allowed).value += 1
        if exchange.sensitivity is not None and (looked := self._sensitive.get(exchange.sensitivity.action)):
            looked.value += 1
        if exchange.error_code == _GONE:
            streaming = bool(exchange.stream and attempts and attempts[-1].first_chunk)
            (self._left_streaming if streaming else self._left_early).value += 1

    def _bind(self, labels: _Labels) -> "_Ending":
        operation, model, provider, status, stream = labels
        ending = _Ending(
            self._series,
            (operation, model, provider or NO_PROVIDER, str(status or _SERVER_ERROR), "true" if stream else "false"),
        )
        if len(self._endings) < _MOST_BOUND:
            self._endings[labels] = ending
        return ending

    def _count_way(self, exchange: Exchange, ended: float) -> None:
        """Count the attempts, and what led from one to the other."""
        model, before = exchange.model_label, None
        for attempt in exchange.attempts:
            deployment, outcome = attempt.deployment, attempt.outcome
            provider = deployment.account.name
            if outcome is None:
                outcome = "ok" if exchange.error_code is None else exchange.error_code
            tried = self._tried.get((provider, model, outcome)) or self._try(provider, model, outcome)
            tried.attempts.value += 1
            tried.duration.observe((ended if attempt.ended is None else attempt.ended) - attempt.started)
            if deployment is before:
                self._series.counter("llm_retries_total", provider).value += 1
            before = deployment
        for event in exchange.events:
            self._count_event(event, model)

    def _count_event(self, event: Event, model: str) -> None:
        told = event.attributes
        match event.name:
            case "failover":
                # A deployment's name is its account's and its model's.
                provider = str(told["from"]).partition("/")[0]
                counter = self._series.counter("llm_failovers_total", provider, bounded_outcome(str(told["cause"])))
            case "fallback":
                reason = bounded_outcome(str(told["cause"]))
                counter = self._series.counter("llm_fallbacks_total", str(told["from"]), str(told["to"]), reason)
            case "race":
                result = "won" if told["won"] else "lost"
                counter = self._series.counter("llm_hedges_total", model, str(told["kind"]), result)
            case "rescue":
                counter = self._series.counter("llm_rescues_total", model, "ok" if told["ok"] else "failed")
            case _:
                return
        counter.value += 1

    def _try(self, provider: str, model: str, outcome: str) -> "_Tried":
        tried = _Tried(self._series, provider, model, bounded_outcome(outcome))
        if len(self._tried) < _MOST_BOUND:
            self._tried[provider, model, outcome] = tried
        return tried

    def _count_stream(self, exchange: Exchange, ending: "_Ending") -> None:
        attempt = exchange.attempts[-1]
        first = attempt.first_chunk
        if first is None:
            return
        ending.first_token.observe(first - exchange.started)
        if exchange.error_code is not None:
            if exchange.error_code != _GONE:
                self._series.counter("llm_streams_truncated_total", attempt.provider).value += 1
            return
        last = exchange.ended if attempt.ended is None else attempt.ended
        if exchange.usage is not None and exchange.usage.completion_tokens > 1 and last is not None:
            ending.per_token.observe((last - first) / (exchange.usage.completion_tokens - 1))


def _left_alone(exchange: Exchange) -> str | None:
    """Name whose failure it is that nobody was asked: the first of those who all rest; `None` is a call of ours."""
    if exchange.error_code not in _RESTING or exchange.model is None or not exchange.model.deployments:
        return None
    return exchange.model.deployments[0].account.name


def bounded_outcome(outcome: str) -> str:
    """Keep an attempt's outcome or an error's code when it is one of ours."""
    return outcome if outcome in _OUTCOMES else OTHER


class _Ending:
    """What requests of the same labels have in common."""

    __slots__ = ("duration", "first_token", "overhead", "per_token", "requests", "spent")

    def __init__(self, series: Series, labels: tuple[str, str, str, str, str]) -> None:
        operation, model, provider, _, stream = labels
        self.requests = series.counter("llm_requests_total", *labels)
        self.duration = series.histogram("llm_request_duration_seconds", operation, model, provider, stream)
        self.overhead = series.histogram("llm_overhead_seconds", stream)
        self.spent = _Spent(series, model, provider)
        if stream == "true":
            self.first_token = series.histogram("llm_time_to_first_token_seconds", operation, model, provider)
            self.per_token = series.histogram("llm_time_per_output_token_seconds", operation, model, provider)


class _Spent:
    """Tokens and money of a model at a provider."""

    __slots__ = ("cached", "cost", "estimated", "price_unknown", "read", "reasoning", "written", "wrote")

    def __init__(self, series: Series, model: str, provider: str) -> None:
        self.read, self.wrote, self.cached, self.written, self.reasoning = (
            series.counter("llm_tokens_total", model, provider, kind)
            for kind in ("input", "output", "cached", "cache_write", "reasoning")
        )
        self.cost = series.counter("llm_cost_usd_total", model, provider)
        self.price_unknown = series.counter("llm_price_unknown_total", model, provider)
        self.estimated = series.counter("llm_usage_estimated_total", model, provider)

    def add(self, usage: Usage, cost_usd: float | None) -> None:
        self.read.value += usage.prompt_tokens
        self.wrote.value += usage.completion_tokens
        if usage.cached_tokens:
            self.cached.value += usage.cached_tokens
        if usage.reasoning_tokens:
            self.reasoning.value += usage.reasoning_tokens
        if usage.cache_write_tokens or usage.cache_write_1h_tokens:
            self.written.value += usage.cache_write_tokens + usage.cache_write_1h_tokens
        if cost_usd is None:
            self.price_unknown.value += 1
        else:
            self.cost.value += cost_usd
        if usage.estimated:
            self.estimated.value += 1


class _Tried:
    """Attempts of the same labels and outcome."""

    __slots__ = ("attempts", "duration")

    def __init__(self, series: Series, provider: str, model: str, outcome: str) -> None:
        self.attempts = series.counter("llm_attempts_total", provider, model, outcome)
        self.duration = series.histogram("llm_attempt_duration_seconds", provider, model)
