from llmgateway.catalog.building.limits import caller_limits, limits_of
from llmgateway.catalog.model import Limits
from llmgateway.catalog.schema import CallerLimitsEntry, Tier
from llmgateway.catalog.snapshot import USUAL_LIMITS


def test_an_entry_says_all_its_limits() -> None:
    assert limits_of(Tier(requests_per_minute=5, cooldown_seconds=0.5)) == Limits(5, cooldown_seconds=0.5)


def test_what_a_file_says_stands_over_what_is_usual() -> None:
    limits = caller_limits(CallerLimitsEntry(tiers={"house": Tier(burst=2)}, operations={"chat": 7}))

    assert caller_limits(None) is USUAL_LIMITS
    assert limits.tiers == {**USUAL_LIMITS.tiers, "house": Limits(burst=2)}
    assert limits.operations == {**USUAL_LIMITS.operations, "chat": 7}
