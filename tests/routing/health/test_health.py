import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.routing.health.health import Cause, Change, Health, HealthPolicy

NOW = 1000.0
POLICY = HealthPolicy()


class Heard:
    """A deployment, and what its health tells the others."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.health = Health(
            "main/model#1", "main", "model", POLICY, lambda _health, change: self.changes.append(change)
        )


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def health(heard: Heard) -> Health:
    return heard.health


def fail(health: Health, now: float = NOW, times: int = 1) -> None:
    for _ in range(times):
        health.failed(now, now, "failures")


def opened(health: Health, now: float = NOW) -> Health:
    fail(health, now, POLICY.failures_in_a_row)
    assert health.state(now) == "open"
    return health


def reopened(health: Health) -> float:
    """Let its probe fail; when its next rest is over."""
    probe = health.begin(health.until)
    assert probe
    health.failed(health.until, health.until, "failures", probe=probe)
    health.end()
    return health.until


def test_it_is_closed_in_the_beginning(health: Health) -> None:
    assert health.state(NOW) == "closed"
    assert health.available(NOW)
    assert not health.is_due(NOW)
    assert health.share(NOW) == 1.0


def test_calls_in_flight_are_counted(health: Health) -> None:
    assert not health.begin(NOW)
    assert not health.begin(NOW)
    assert health.inflight == 2

    health.end()

    assert health.inflight == 1


def test_failures_in_a_row_open_the_circuit(heard: Heard, health: Health) -> None:
    fail(health, times=POLICY.failures_in_a_row - 1)
    assert health.state(NOW) == "closed"

    fail(health)

    assert (health.state(NOW), health.cause) == ("open", "failures")
    assert not health.available(NOW)
    assert heard.changes == ["opened"]


def test_an_answer_between_failures_begins_the_row_anew(health: Health) -> None:
    for _ in range(3):
        health.answered(NOW, NOW, stream=False)
    for _ in range(3):
        fail(health, times=2)
        health.well(NOW, NOW)

    assert health.in_a_row == 0
    assert health.state(NOW) == "closed"


def test_so_does_a_share_of_failures(health: Health) -> None:
    for _ in range(4):
        fail(health)
        health.answered(NOW, NOW, stream=False)
    assert health.state(NOW) == "closed"  # too few to say

    for _ in range(2):
        fail(health)

    assert health.state(NOW) == "open"


def test_failures_of_long_ago_do_not_count(health: Health) -> None:
    for _ in range(9):
        fail(health)
        health.well(NOW, NOW)
    for number in range(40):
        health.answered(NOW + number, NOW + number, stream=False)

    fail(health, NOW + 40, times=4)

    assert health.state(NOW + 40) == "closed"


def test_the_share_of_failures_is_told(health: Health) -> None:
    fail(health)
    assert health.failed_share == pytest.approx(0.1)  # one call says little

    for _ in range(19):
        health.answered(NOW, NOW, stream=False)

    assert health.failed_share == pytest.approx(0.05)


def test_after_its_rest_one_call_is_the_probe(health: Health) -> None:
    now = opened(health).until
    assert POLICY.rest_s * 0.9 <= now - NOW <= POLICY.rest_s
    assert health.state(now) == "half_open"
    assert health.available(now)
    assert health.is_due(now)

    assert health.begin(now)

    assert not health.available(now)
    assert not health.is_due(now)
    assert not health.begin(now)


def test_a_probe_that_works_closes_the_circuit(heard: Heard, health: Health) -> None:
    now = opened(health).until

    assert health.begin(now)
    health.answered(now + 0.1, now, stream=True, probe=True)

    assert health.state(now + 0.1) == "closed"
    assert health.cause is None
    assert heard.changes == ["opened", "closed"]
    assert (health.in_a_row, health.failed_share) == (0, 0.0)


def test_a_probe_that_fails_makes_it_rest_longer_but_not_for_ever(health: Health) -> None:
    rests = [opened(health).until - NOW]
    for _ in range(12):
        began = health.until
        rests.append(reopened(health) - began)

    assert rests[:3] == [pytest.approx(rest_s, rel=0.11) for rest_s in (1, 2, 4)]
    assert max(rests) <= POLICY.longest_rest_s
    assert min(rests[3:]) >= 0.9 * POLICY.longest_rest_s


def test_a_probe_that_is_given_up_says_nothing_and_the_next_call_probes(health: Health) -> None:
    now = opened(health).until
    assert health.begin(now)

    health.left(probe=True)

    assert health.is_due(now)
    assert health.begin(now)


def test_a_client_error_answers_the_probe(health: Health) -> None:
    now = opened(health).until
    assert health.begin(now)

    health.well(now + 0.1, now, probe=True)

    assert health.state(now + 0.1) == "closed"


def test_who_comes_back_gets_its_share_bit_by_bit(health: Health) -> None:
    now = opened(health).until
    health.begin(now)
    health.well(now, now, probe=True)

    shares = [health.share(now + since_s) for since_s in (0.0, 1.0, 2.0, 2.999, 3.0)]

    assert shares == pytest.approx([0.1, 0.4, 0.7, 1.0, 1.0], abs=0.001)


def test_what_was_known_of_its_speed_is_forgotten_after_an_outage(health: Health) -> None:
    health.answered(NOW, NOW - 2.0, stream=True)
    now = opened(health).until

    health.begin(now)
    health.well(now, now, probe=True)

    assert health.pace(stream=True).samples == 0


def test_streams_and_whole_answers_have_each_their_pace(health: Health) -> None:
    health.answered(NOW, NOW - 2.0, stream=True)
    health.answered(NOW, NOW - 5.0, stream=False)

    assert health.pace(stream=True).mean_s == 2.0
    assert health.pace(stream=False).mean_s == 5.0


def test_a_rate_limit_rests_as_long_as_the_provider_says(heard: Heard, health: Health) -> None:
    health.failed(NOW, NOW, "rate_limit", rest_s=20.0)

    assert not health.available(NOW + 19.99)
    assert health.state(NOW + 19.99) == "open"
    assert health.available(NOW + 20.0)
    assert health.state(NOW + 20.0) == "closed"
    assert not health.is_due(NOW + 20.0)
    assert not health.begin(NOW + 20.0)
    assert health.failed_share == 0.0
    assert heard.changes == ["opened"]


def test_after_a_rate_limit_its_share_grows_from_the_end_of_the_rest(health: Health) -> None:
    health.failed(NOW, NOW, "rate_limit", rest_s=20.0)
    assert health.share(NOW + 20.0) == pytest.approx(0.1)
    assert health.share(NOW + 21.0) == pytest.approx(0.4)

    health.answered(NOW + 21.0, NOW + 20.5, stream=False)

    assert health.state(NOW + 21.0) == "closed"
    assert health.share(NOW + 21.0) == pytest.approx(0.4)
    assert health.share(NOW + 23.0) == 1.0


def test_an_answer_does_not_end_the_time_that_a_provider_asked_for(health: Health) -> None:
    health.failed(NOW, NOW, "rate_limit", rest_s=20.0)

    health.answered(NOW + 1.0, NOW + 0.5, stream=False)

    assert not health.available(NOW + 19.0)


def test_calls_that_were_on_their_way_make_one_rest_and_not_many(heard: Heard, health: Health) -> None:
    for number in range(200):
        health.failed(NOW + number / 1000, NOW - 1.0, "rate_limit")

    assert health.until == pytest.approx(NOW + POLICY.rate_limit_rest_s)
    assert heard.changes == ["opened"]


def test_the_last_of_them_says_how_long(heard: Heard, health: Health) -> None:
    for number in range(200):
        health.failed(NOW + number / 1000, NOW - 1.0, "rate_limit", rest_s=5.0)
    assert health.until == pytest.approx(NOW + 5.199)
    assert heard.changes == ["opened"]

    health.failed(NOW + 0.2, NOW - 1.0, "rate_limit", rest_s=60.0)

    assert health.until == pytest.approx(NOW + 60.2)
    assert heard.changes == ["opened", "opened"]


def test_rate_limits_without_a_time_rest_longer_each_time(health: Health) -> None:
    rests, now = [], NOW
    for _ in range(8):
        health.failed(now, now, "rate_limit")
        rests.append(health.until - now)
        now = health.until

    assert rests == pytest.approx([1, 2, 4, 8, 8, 8, 8, 8])

    health.answered(now, now, stream=False)
    health.failed(now, now, "rate_limit")
    assert health.until - now == pytest.approx(1.0)


def test_one_failure_after_a_rate_limit_is_one_failure(health: Health) -> None:
    health.failed(NOW, NOW, "rate_limit", rest_s=1.0)

    fail(health, NOW + 2.0)

    assert health.state(NOW + 2.0) == "closed"
    assert health.in_a_row == 1


@pytest.mark.parametrize(("cause", "rest_s"), [("auth", POLICY.auth_rest_s), ("quota", POLICY.quota_rest_s)])
def test_refused_keys_and_empty_accounts_rest_long(heard: Heard, health: Health, cause: Cause, rest_s: float) -> None:
    for number in range(50):
        health.failed(NOW + number / 100, NOW - 1.0, cause)

    assert health.cause == cause
    assert not health.available(NOW + rest_s - 1.0)
    assert health.is_due(NOW + rest_s)
    assert heard.changes == ["opened"]


def test_a_refused_key_that_works_after_all_is_asked_again(health: Health) -> None:
    health.failed(NOW, NOW, "auth")

    health.answered(NOW + 5.0, NOW + 4.0, stream=False)  # asked although it rested: nobody else was left

    assert health.state(NOW + 5.0) == "closed"


def test_pitfall_058_a_failure_with_a_time_rests_until_then(health: Health) -> None:
    health.failed(NOW, NOW, "failures", rest_s=2.0)

    assert not health.available(NOW + 1.999)
    assert health.is_due(NOW + 2.0)


@pytest.mark.parametrize("cause", ["failures", "rate_limit"])
def test_nobody_may_ask_for_a_rest_without_end_or_for_none(health: Health, cause: Cause) -> None:
    health.failed(NOW, NOW, cause, rest_s=0.0)
    assert health.available(NOW) == (cause == "failures")

    health.failed(NOW + 50.0, NOW + 50.0, cause, rest_s=1e9)
    assert health.until - NOW - 50.0 == POLICY.longest_asked_rest_s


def test_the_shorter_rest_does_not_end_the_longer(heard: Heard, health: Health) -> None:
    health.failed(NOW, NOW, "auth")

    health.failed(NOW + 1.0, NOW + 0.5, "rate_limit", rest_s=5.0)

    assert (health.cause, health.until) == ("auth", NOW + POLICY.auth_rest_s)
    assert heard.changes == ["opened"]


def test_what_began_before_the_circuit_opened_does_not_close_it(health: Health) -> None:
    now = opened(health).until

    health.answered(now + 1.0, NOW - 1.0, stream=False)

    assert health.state(now + 1.0) == "half_open"
    assert health.pace(stream=False).samples == 0


def test_what_began_before_the_circuit_closed_does_not_open_it(health: Health) -> None:
    now = opened(health).until
    health.begin(now)
    health.well(now, now, probe=True)

    for _ in range(50):
        health.failed(now + 1.0, NOW - 1.0, "failures")
    fail(health, now + 1.0)

    assert health.state(now + 1.0) == "closed"
    assert health.in_a_row == 1
    assert health.failed_share == pytest.approx(0.1)


def test_a_call_that_was_given_up_counts_when_nothing_at_all_had_come(health: Health) -> None:
    for _ in range(POLICY.failures_in_a_row):
        health.silent(NOW + 5.0, NOW)

    assert health.state(NOW + 5.0) == "open"


def test_a_call_that_was_given_up_does_not_count_while_others_are_answered(health: Health) -> None:
    health.answered(NOW + 1.0, NOW, stream=False)

    for _ in range(50):
        health.silent(NOW + 5.0, NOW)

    assert health.state(NOW + 5.0) == "closed"
    assert health.in_a_row == 0


def test_a_silent_probe_makes_it_rest_again(health: Health) -> None:
    now = opened(health).until
    health.begin(now)

    health.silent(now + 2.0, now, probe=True)

    assert not health.probing
    assert health.state(now + 2.0) == "open"


def test_it_rests_as_another_process_says_and_tells_nobody(heard: Heard, health: Health) -> None:
    health.rest_until(NOW, NOW + 10.0, "rate_limit")

    assert not health.available(NOW + 9.0)
    assert health.available(NOW + 10.0)
    health.rest_until(NOW, NOW + 5.0, "failures")
    assert (health.until, health.cause) == (NOW + 10.0, "rate_limit")
    assert heard.changes == []


def test_it_closes_as_another_process_says_and_tells_nobody(heard: Heard, health: Health) -> None:
    opened(health)

    health.close_too(NOW + 0.5)
    health.close_too(NOW + 0.6)

    assert health.state(NOW + 0.5) == "closed"
    assert health.warm_from == NOW + 0.5
    assert heard.changes == ["opened"]


def test_a_rest_told_by_another_process_ends_the_probe_here(health: Health) -> None:
    now = opened(health).until
    health.begin(now)

    health.rest_until(now + 1.0, now + 5.0, "failures")
    health.answered(now + 2.0, now, stream=False, probe=True)

    assert health.state(now + 2.0) == "open"
    assert health.is_due(now + 5.0)


@pytest.mark.parametrize(
    ("cause", "ended"), [("failures", True), ("auth", True), ("quota", False), ("rate_limit", False)]
)
def test_who_was_found_to_live_is_tried_unless_its_provider_asked_for_rest(
    health: Health, cause: Cause, ended: bool
) -> None:
    health.failed(NOW, NOW, cause, rest_s=60.0)

    health.due_now(NOW + 1.0)

    assert health.is_due(NOW + 1.0) == ended


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "answer", "fail", "limit", "auth", "leave", "told", "close", "refuse"]),
            st.floats(0.0, 20.0),
        ),
        max_size=60,
    )
)
def test_whatever_happens_one_call_probes_at_once_and_none_is_lost(events: list[tuple[str, float]]) -> None:
    health, now, running = Heard().health, NOW, list[tuple[float, int]]()
    for what, after_s in events:
        now += after_s
        if what == "begin" and health.available(now):
            began, probe = now, health.begin(now)
            running.append((began, probe))
        elif what == "told":
            health.rest_until(now, now + 3.0, "failures")
        elif what == "close":
            health.close_too(now)
        elif running:
            began, probe = running.pop(0)
            _end(health, what, now, began, probe=probe)
        assert health.inflight == len(running)
        assert 0.1 <= health.share(now) <= 1.0
        assert 0.0 <= health.failed_share <= 1.0
        assert health.until <= now + POLICY.auth_rest_s + 1e-6  # sums of seconds are rounded
        assert not (health.is_due(now) and not health.available(now))
    while running:
        began, probe = running.pop()
        _end(health, "leave", now, began, probe=probe)
    assert health.available(now + POLICY.auth_rest_s + 1e-6)


def _end(health: Health, what: str, now: float, began: float, *, probe: int) -> None:
    match what:
        case "answer":
            health.answered(now, began, stream=False, probe=probe)
        case "fail":
            health.failed(now, began, "failures", probe=probe)
        case "limit":
            health.failed(now, began, "rate_limit", rest_s=3.0, probe=probe)
        case "auth":
            health.failed(now, began, "auth", probe=probe)
        case "refuse":
            health.well(now, began, probe=probe)
        case _:
            health.left(probe=probe)
    health.end()


def test_a_probe_that_never_ends_keeps_nobody_from_trying_for_long(health: Health) -> None:
    now = opened(health).until
    assert health.begin(now)

    assert not health.available(now + POLICY.probe_s - 0.1)
    assert health.available(now + POLICY.probe_s)


def test_an_old_probe_says_nothing_of_a_newer_one(health: Health) -> None:
    now = opened(health).until
    old = health.begin(now)
    newer = health.begin(now + POLICY.probe_s)

    health.left(probe=old)

    assert newer == health.probing != old


def test_a_stream_that_breaks_is_one_call_that_failed(health: Health) -> None:
    now = NOW
    for number in range(20):
        now = NOW + number
        health.answered(now, now, stream=True)
        if number % 10:
            health.failed(now, now, "failures", midway=True)
        if health.until:
            break

    assert health.state(now) == "open", "nine of ten break, though none fails before its first event"


def test_who_is_asked_although_it_rests_does_not_rest_longer_for_it(health: Health) -> None:
    until = opened(health).until
    before = until - 0.1

    health.failed(before, before, "failures")

    assert health.until == until


def test_the_probe_counts_although_another_call_failed_meanwhile(health: Health) -> None:
    now = opened(health).until
    probe = health.begin(now)
    health.failed(now + 0.1, now + 0.05, "failures", rest_s=0.2)

    health.well(now + 0.15, now, probe=probe)

    assert health.state(now + 0.15) == "closed"
