"""Times that belong together."""

from llmgateway.jobs.running.means import Times


def test_a_lease_outlives_many_looks_and_a_cancelled_job_ends_within_two_seconds() -> None:
    times = Times()

    assert times.lease_s >= 10 * times.look_every_s
    assert times.look_every_s <= 1.0
    assert times.pieces_every_s >= 0.25
