"""Says which limits hold for a call: made once for each kind of caller and call, then looked up.

What clients choose freely (users, organizations in auth mode none, models that pass through) makes no rules without
end: as many are kept as `_KEPT`, those asked for last.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from hashlib import blake2b
from math import inf
from types import MappingProxyType
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from llmgateway.caller import Caller
from llmgateway.catalog.model import NO_LIMITS, Deployment, Limits, Model
from llmgateway.catalog.snapshot import USUAL_LIMITS, Catalog
from llmgateway.exchange import Call, Exchange, Operation
from llmgateway.gateway.purses import purse_of
from llmgateway.stores.base import Cooldown, Purse, Rate, Rules, Slots

_KEPT = 10_000
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LONG = 64
_USUAL_TIER = "default"
_USUAL_PER_MINUTE = USUAL_LIMITS.tiers[_USUAL_TIER].requests_per_minute
_PERIODS_S = {"requests_per_minute": 60.0, "requests_per_hour": 3_600.0, "requests_per_day": 86_400.0}
# OpenAI's legacy completions are chats by another name.
OPERATIONS: Mapping[Operation, str] = MappingProxyType(
    {"chat": "chat", "completion": "chat", "embedding": "embeddings"}
)
NO_RULES = Rules()
_wall_clock = partial(time.clock_gettime, time.CLOCK_REALTIME)
Key = TypeVar("Key")
Kept = TypeVar("Kept")
_Key = tuple[Caller, str | None, Operation, str | None, str | None]


class _Entry(Struct, frozen=True, gc=False):
    rules: Rules
    ends_at: float


class RuleBook:
    """The limits of callers, models, accounts and deployments as rules that the store understands.

    Args:
        catalog: Gives the catalog served at this moment; when it changes, all rules are made anew.
        enabled: Whether callers are limited; budgets, and limits of accounts and deployments, hold in any case.
        default_tier: The tier of keys that name none.
        overrides: What the settings say of that tier.
        now: Unix seconds, which say in which period a budget is.
    """

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        *,
        enabled: bool,
        default_tier: str = _USUAL_TIER,
        overrides: Limits = NO_LIMITS,
        now: Callable[[], float] = _wall_clock,
    ) -> None:
        self._catalog = catalog
        self._enabled = enabled
        self._default_tier = default_tier
        self._overrides = overrides
        self._now = now
        self._read(catalog())

    def of(self, exchange: Exchange, call: Call, model: Model) -> Rules:
        """Give all rules of a call, save those of who answers it."""
        if (catalog := self._catalog()) is not self._served:
            self._read(catalog)
        caller = exchange.caller
        if not self._enabled and caller.budget is None and caller.organization_budget is None:
            return NO_RULES
        if caller.provider_key is not None:
            caller = msgspec.structs.replace(caller, provider_key=None)  # which is kept nowhere
        limited = user = None
        if self._narrow:
            limited = model.name if model.name in self._limits.models else None
            user = call.user if self._by_user else None
            if user is not None and len(user) > _LONG:
                user = _plain(user)
        key = (caller, exchange.organization, call.operation, limited, user)
        entry = self._entries.young.get(key) or self._entries.get(key)
        if entry is None or self._now() >= entry.ends_at:
            entry = self._made(key)
            self._entries.put(key, entry)
        return entry.rules

    def of_caller(self, caller: Caller, organization: str | None = None) -> Rules:
        """Give what holds for a caller alone, whatever it asks: to be looked at, or reset."""
        if (catalog := self._catalog()) is not self._served:
            self._read(catalog)
        purses = tuple(self._purses(caller))
        if not self._enabled:
            return Rules(purses=purses)
        parts = (part for operation in OPERATIONS for part in self._of_caller(caller, organization, operation, None))
        return _together(parts, purses)

    def choices(self, found: Sequence[Deployment], caller: Caller) -> tuple[Rules, ...]:
        """Give the rules of each deployment that may answer; empty when none of them has any.

        A caller with a key of its own uses nothing of what our account may take.
        """
        if not self.limits_accounts or caller.provider_key is not None:
            return ()
        choices = tuple([self._of_one(deployment) for deployment in found])
        return () if all(rules is NO_RULES for rules in choices) else choices

    def _of_one(self, deployment: Deployment) -> Rules:
        # It is kept with its rules, so that no other has its id.
        known = self._deployments.get(id(deployment))
        if known is None:
            known = (deployment, _of_deployment(deployment))
            self._deployments.put(id(deployment), known)
        return known[1]

    def _read(self, catalog: Catalog) -> None:
        self._served = catalog
        self._limits = limits = catalog.limits
        self._by_user = self._enabled and limits.users != NO_LIMITS
        # Whether more than the caller and the operation says which limits hold.
        self._narrow = self._by_user or bool(limits.models)
        # Whether any account or deployment has limits: most catalogs name none, and need no look at `choices`.
        self.limits_accounts = any(account.limits != NO_LIMITS for account in catalog.accounts.values()) or any(
            one.limits != NO_LIMITS for model in catalog.models.values() for one in model.deployments
        )
        self._entries: _Bounded[_Key, _Entry] = _Bounded(_KEPT)
        self._deployments: _Bounded[int, tuple[Deployment, Rules]] = _Bounded(_KEPT)

    def _made(self, key: _Key) -> _Entry:
        caller, organization, operation, model, user = key
        purses = tuple(self._purses(caller))
        ends_at = min((purse.ends_at for purse in purses if purse.ends_at is not None), default=inf)
        rules = Rules(purses=purses)
        if self._enabled:
            parts = [*self._of_caller(caller, organization, operation, user), *self._of_all(model)]
            rules = _together(parts, purses)
        return _Entry(rules, ends_at)

    def _purses(self, caller: Caller) -> Iterator[Purse]:
        now = datetime.fromtimestamp(self._now(), UTC)
        if caller.budget is not None and caller.key_id is not None:
            yield purse_of("key", caller.key_id, caller.budget, now)
        if caller.organization_budget is not None and caller.organization is not None:
            yield purse_of("organization", caller.organization, caller.organization_budget, now)

    def _of_caller(
        self, caller: Caller, organization: str | None, operation: Operation, user: str | None
    ) -> Iterator[Rules]:
        if caller.kind == "admin":
            return
        who = _subject(caller, organization)
        limits = self._own(caller)
        yield _rules("key", who, limits)
        if caller.organization is not None and caller.organization_limits is not None:
            yield _rules("organization", f"organization:{_plain(caller.organization)}", caller.organization_limits)
        if user is not None:
            of_whom = who if organization is None else f"organization:{_plain(organization)}"
            yield _rules("user", f"{of_whom}:user:{_plain(user)}", self._limits.users)
        name = OPERATIONS[operation]
        most = self._limits.operations.get(name)
        if most is not None and self._holds(name, most, limits):
            key = f"rate:{who}:operation:{name}"
            yield Rules((Rate(f"operation.{name}", key, "requests", most, 60.0, sixth(most)),))

    def _of_all(self, model: str | None) -> Iterator[Rules]:
        if model is not None:
            yield _rules("model", f"model:{_plain(model)}", self._limits.models[model], rests=False)
        yield _rules("everyone", "everyone", self._limits.everyone, rests=False)

    def _own(self, caller: Caller) -> Limits:
        tiers = self._limits.tiers
        default = merged(self._overrides, tiers.get(self._default_tier) or tiers.get(_USUAL_TIER, NO_LIMITS))
        tier = None if caller.tier is None else tiers.get(caller.tier)
        return merged(caller.limits or NO_LIMITS, tier or NO_LIMITS, default)

    def _holds(self, operation: str, most: int, limits: Limits) -> bool:
        """Whether an operation's limit is meant: the usual ones are for callers whose own is the usual one as well."""
        is_usual = USUAL_LIMITS.operations.get(operation) == most
        return not is_usual or limits.requests_per_minute == _USUAL_PER_MINUTE


class _Bounded(Generic[Key, Kept]):
    """The values asked for last: at least as many as said, at most twice as many.

    A hit costs one look-up, and no call for who looks into `young` first.
    """

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self.young: dict[Key, Kept] = {}
        self._old: dict[Key, Kept] = {}

    def get(self, key: Key) -> Kept | None:
        value = self.young.get(key)
        if value is None:
            value = self._old.pop(key, None)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: Key, value: Kept) -> None:
        if len(self.young) >= self._kept:
            self._old, self.young = self.young, {}
        self.young[key] = value


def merged(*sources: Limits) -> Limits:
    """Take each limit from the first source that has it.

    A burst belongs to its requests a minute: who is given other ones, and no burst, has a sixth of those.
    """
    found: dict[str, float | None] = {}
    for name in Limits.__struct_fields__:
        found[name] = next((value for source in sources if (value := getattr(source, name)) is not None), None)
    owner = next((one for one in sources if one.burst is not None or one.requests_per_minute is not None), NO_LIMITS)
    found["burst"] = owner.burst
    return msgspec.convert(found, Limits)


def sixth(limit: int) -> int:
    """Give the usual burst of a limit: a sixth, rounded up."""
    return -(-limit // 6)


def _together(parts: Iterable[Rules], purses: tuple[Purse, ...] = ()) -> Rules:
    """Put rules together, each once."""
    rates: dict[str, Rate] = {}
    slots: dict[str, Slots] = {}
    cooldowns: dict[str, Cooldown] = {}
    for part in parts:
        rates |= {rate.key: rate for rate in part.rates}
        slots |= {one.key: one for one in part.slots}
        cooldowns |= {one.key: one for one in part.cooldowns}
    return Rules(tuple(rates.values()), tuple(slots.values()), tuple(cooldowns.values()), purses)


def _rules(scope: str, subject: str, limits: Limits, *, rests: bool = True) -> Rules:
    """Make the rules of one scope.

    Args:
        rests: Whether too many refusals are followed by a rest: never where one's refusals would be another's rest.
    """
    rates = [*_request_rates(scope, subject, limits)]
    if (tokens := limits.tokens_per_minute) is not None:
        key = f"rate:{subject}:tokens_per_minute"
        rates.append(Rate(f"{scope}.tokens_per_minute", key, "tokens", tokens, 60.0, tokens))
    slots = () if limits.concurrent is None else (Slots(f"{scope}.concurrent", f"slots:{subject}", limits.concurrent),)
    rest_s = limits.cooldown_seconds if rests else None
    cooldowns = (Cooldown(f"{scope}.cooldown", f"rest:{subject}", float(rest_s)),) if rest_s else ()
    return Rules(tuple(rates), slots, cooldowns)


def _request_rates(scope: str, subject: str, limits: Limits) -> Iterator[Rate]:
    for name, period_s in _PERIODS_S.items():
        limit: int | None = getattr(limits, name)
        if limit is not None:
            named = limits.burst if name == "requests_per_minute" else None
            burst = sixth(limit) if named is None else named
            yield Rate(f"{scope}.{name}", f"rate:{subject}:{name}", "requests", limit, period_s, burst)


def _of_deployment(deployment: Deployment) -> Rules:
    account = f"provider:{_plain(deployment.account.name)}"
    parts = (
        _rules("provider", account, deployment.account.limits, rests=False),
        _rules("deployment", f"{account}:{_plain(deployment.model)}", deployment.limits, rests=False),
    )
    rules = _together(parts)
    return NO_RULES if rules == NO_RULES else rules


def _subject(caller: Caller, organization: str | None) -> str:
    if caller.key_id is not None:
        return _plain(caller.key_id)
    return "anyone" if organization is None else f"anyone:{_plain(organization)}"


def _plain(text: str) -> str:
    """Give a text as part of a key: as it is, or its digest when it is long or odd."""
    return text if _PLAIN.fullmatch(text) else f"~{blake2b(text.encode(errors='replace'), digest_size=16).hexdigest()}"
