"""The six samplers, decided as the SDK decides."""

import random

import pytest
from opentelemetry.sdk.trace.sampling import Decision, TraceIdRatioBased

from llmgateway.telemetry.traces.sampling import SAMPLERS


@pytest.mark.parametrize("ratio", [0.0, 0.001, 0.1, 0.5, 0.999, 1.0])
def test_a_share_keeps_the_same_traces_as_the_sdk(ratio: float) -> None:
    ours, theirs = SAMPLERS["traceidratio"].of(ratio), TraceIdRatioBased(ratio)
    for trace_id in [1, (1 << 64) - 1, (1 << 128) - 1, *(random.getrandbits(128) for _ in range(500))]:
        kept = theirs.should_sample(None, trace_id, "any").decision is Decision.RECORD_AND_SAMPLE
        assert ours.keeps(trace_id, parent_sampled=None) is kept


@pytest.mark.parametrize(
    ("name", "without", "with_kept", "with_dropped"),
    [
        ("always_on", True, True, True),
        ("always_off", False, False, False),
        ("traceidratio", True, True, True),
        ("parentbased_always_on", True, True, False),
        ("parentbased_always_off", False, True, False),
        ("parentbased_traceidratio", True, True, False),
    ],
)
def test_a_client_is_followed_by_the_samplers_that_say_so(
    name: str, *, without: bool, with_kept: bool, with_dropped: bool
) -> None:
    decided = [SAMPLERS[name].keeps(7, parent_sampled=parent) for parent in (None, True, False)]

    assert decided == [without, with_kept, with_dropped]
