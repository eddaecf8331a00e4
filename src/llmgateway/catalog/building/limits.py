"""Entries of limits into limits."""

from collections.abc import Mapping
from types import MappingProxyType

from llmgateway.catalog.model import CallerLimits, Limits
from llmgateway.catalog.schema import CallerLimitsEntry, Tier
from llmgateway.catalog.snapshot import USUAL_LIMITS


def limits_of(entry: Tier) -> Limits:
    """Make limits of what a file or a request says."""
    return Limits(**entry.model_dump())


def caller_limits(entry: CallerLimitsEntry | None) -> CallerLimits:
    """Make the limits of callers: the usual ones, and what the file says over them."""
    if entry is None:
        return USUAL_LIMITS
    return CallerLimits(
        tiers=MappingProxyType({**USUAL_LIMITS.tiers, **_all_limits(entry.tiers)}),
        operations=MappingProxyType({**USUAL_LIMITS.operations, **entry.operations}),
        users=limits_of(entry.users),
        models=MappingProxyType(_all_limits(entry.models)),
        everyone=limits_of(entry.everyone),
    )


def _all_limits(entries: Mapping[str, Tier]) -> dict[str, Limits]:
    return {name: limits_of(entry) for name, entry in entries.items()}
