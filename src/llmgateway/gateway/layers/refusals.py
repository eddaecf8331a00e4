"""What a caller is told whom a limit or a budget holds back: whose it is, how much, and until when."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime

from llmgateway.errors import BudgetSpentError, LimitsAwayError, PermissionDeniedError, RateLimitedError
from llmgateway.gateway.purses import NANO
from llmgateway.stores.base import Cooldown, Purse, Rate, Rules, Slots

_PERIODS = {60.0: "minute", 3_600.0: "hour", 86_400.0: "day"}
_SCOPES = {
    "key": "this key",
    "organization": "this organization",
    "user": "this user",
    "operation": "this key",
    "model": "all callers of this model together",
    "everyone": "all callers together",
    "provider": "the account that answers for this model",
    "deployment": "the deployment that answers for this model",
}


def rule_named(name: str, all_rules: Iterable[Rules]) -> Rate | Slots | Cooldown | None:
    """Find a rule by its name; `None` when it is a purse or none of these."""
    for rules in all_rules:
        every: Iterable[Rate | Slots | Cooldown] = (*rules.rates, *rules.slots, *rules.cooldowns)
        for rule in every:
            if rule.name == name:
                return rule
    return None


def rate_limited(name: str, rule: Rate | Slots | Cooldown | None, retry_after_s: float) -> RateLimitedError:
    """Say that a rate, the slots or a cooldown holds the call back, and that it is this gateway who does."""
    scope = _SCOPES.get(name.partition(".")[0], "this key")
    details: dict[str, object] = {"rule": name}
    says = f"of {scope}"
    if isinstance(rule, Rate):
        says = f"{rule.limit} {rule.unit} a {_PERIODS.get(rule.period_s, 'period')} for {scope}"
        details["limit"] = rule.limit
    elif isinstance(rule, Slots):
        says = f"{rule.limit} calls at once for {scope}"
        details["limit"] = rule.limit
    elif isinstance(rule, Cooldown):
        says = f"after {rule.after} refusals within {rule.within_s:g} s nothing passes for {rule.rest_s:g} s"
    return RateLimitedError(
        f"A limit of this gateway, not of the provider, is reached: {name} ({says}). "
        f"Try again in {_shown(retry_after_s)} s.",
        details=details,
        retry_after_s=retry_after_s,
    )


def budget_spent(name: str, purses: Iterable[Purse], retry_after_s: float) -> BudgetSpentError:
    """Say that a budget has no room for the call, and when it begins anew."""
    purse = next((one for one in purses if one.name == name), None)
    whose = "organization" if name.startswith("organization") else "key"
    ends_at = None if purse is None else purse.ends_at
    details: dict[str, object] = {"rule": name, "resets_at": None}
    until = ""
    if ends_at is not None:
        resets = datetime.fromtimestamp(ends_at, UTC)
        details["resets_at"] = f"{resets:%Y-%m-%dT%H:%M:%SZ}"
        until = f" It begins anew at {details['resets_at']}."
        retry_after_s = ends_at - datetime.now(UTC).timestamp()
    if purse is not None:
        details["budget_usd"] = purse.hard_nusd / NANO
    amount = "" if purse is None else f" of ${purse.hard_nusd / NANO:.9g}"
    return BudgetSpentError(
        f"The budget{amount} that this {whose} has at this gateway has no room for this call ({name}).{until} "
        "Whoever runs the gateway can raise it.",
        details=details,
        retry_after_s=max(retry_after_s, 0.0) or None,
    )


def unpriced(model: str) -> PermissionDeniedError:
    """Say that nobody knows what the model costs, and what the operator can do."""
    return PermissionDeniedError(
        f"This caller has a budget, and what the model `{model[:200]}` costs is unknown. Give its deployment "
        "`prices_per_million: {input: …, output: …}` in the catalog, or let unpriced models pass with "
        "LLMGATEWAY_LIMITS__UNPRICED=allow.",
        param="model",
        code="price_unknown",
        details={"model": model[:200]},
    )


def away(what: str) -> LimitsAwayError:
    """Say that the call cannot be counted now."""
    return LimitsAwayError(f"{what}, and no call may pass uncounted. Try again soon.", retry_after_s=1.0)


def _shown(seconds: float) -> str:
    return f"{math.ceil(seconds * 10) / 10:g}"
