"""What strategies and health do together under load, for each way in which a deployment can fail."""

from functools import cache
from math import isclose

import pytest

from llmgateway.catalog.model import Prices
from llmgateway.routing.choosing.strategies import STRATEGIES
from tests.routing.choosing.simulated import Play, Script, World, always, between

RATE = 100.0
WELL = always()
FAVOURITE = always(after_s=0.08)
PRICES = [Prices(1e-6, 4e-6), Prices(2e-6, 8e-6), Prices(3e-6, 12e-6)]
# From the fifth to the twentieth second; how long a call to it takes bounds how soon that is known.
DEAD: dict[str, Script] = {
    "refusing": always("fails", 0.001),
    "hanging": always("fails", 4.0),
    "answering 500": always("fails", 0.05),
    "answering 503 with Retry-After": always("fails", 0.05, rest_s=3.0),
}
BEGIN_S, END_S = 5.0, 20.0
strategies = pytest.mark.parametrize("strategy", STRATEGIES)
failures = pytest.mark.parametrize("failure", DEAD)


@cache
def dead(strategy: str, failure: str) -> World:
    return with_outage(strategy, DEAD[failure], rate=RATE, until_s=36.0)


def with_outage(strategy: str, play: Script, *, rate: float, until_s: float) -> World:
    """Play three deployments of which one, every strategy's favourite if it has one, is dead for a while."""
    scripts = [between(BEGIN_S, END_S, play, FAVOURITE), WELL, WELL]
    return World(strategy, scripts, prices=PRICES).run(until_s, rate=rate)


def jitter(usual_s: float) -> Script:
    return lambda _now, turn: Play(after_s=usual_s * (0.5 + hash((turn, 7)) % 1000 / 1000))


@strategies
@failures
def test_no_client_sees_that_a_deployment_is_dead(strategy: str, failure: str) -> None:
    world = dead(strategy, failure)

    assert world.failed() == 0
    assert len(world.calls) == 36 * RATE


@strategies
@failures
def test_a_dead_deployment_soon_gets_one_call_a_rest(strategy: str, failure: str) -> None:
    world = dead(strategy, failure)

    late = [one for one in world.between(BEGIN_S + 7, END_S) if one.who == 0]
    assert all(one.probe for one in late)
    assert len(late) <= 5
    assert world.most_probes_at_once(0) == 1


@strategies
@failures
def test_traffic_is_back_within_ten_seconds_of_the_recovery(strategy: str, failure: str) -> None:
    world = dead(strategy, failure)

    usual, back = world.shares(1.0, BEGIN_S)[0], world.shares(END_S + 12.0)[0]
    assert any(one.who == 0 and one.play.outcome == "answers" for one in world.between(END_S, END_S + 10.0))
    assert back > 0.75 * usual


@strategies
@failures
def test_nobody_rushes_to_a_deployment_that_came_back(strategy: str, failure: str) -> None:
    world = dead(strategy, failure)

    back_s = next(at for at, who, change in world.changes if (who, change) == (0, "closed"))
    first = sum(one.who == 0 for one in world.between(back_s, back_s + 1.0))
    # Its share grows from a tenth to four tenths in this second.
    assert first <= 0.4 * RATE
    if strategy in {"weighted", "round_robin"}:
        assert first <= 0.4 * RATE / 3


@strategies
def test_a_rate_limited_deployment_is_not_asked_before_its_time(strategy: str) -> None:
    rest_s = 4.0
    world = with_outage(strategy, always("rate_limit", 0.02, rest_s=rest_s), rate=100, until_s=34.0)

    asked = [one for one in world.asked if one.who == 0]
    refused = [one.ended for one in asked if one.play.outcome == "rate_limit"]
    assert world.failed() == 0
    assert refused
    for at in refused:
        assert not [one for one in asked if at < one.at < at + rest_s - 1e-9]
    assert world.shares(END_S + 8.0)[0] > 0.75 * world.shares(1.0, BEGIN_S)[0]


@strategies
def test_a_rate_limit_without_a_time_rests_longer_each_time_and_not_by_the_call(strategy: str) -> None:
    world = with_outage(strategy, always("rate_limit", 0.1), rate=100, until_s=52.0)

    refused = [one.at for one in world.asked if one.who == 0 and one.play.outcome == "rate_limit"]
    opened = [at for at, who, change in world.changes if (who, change) == (0, "opened")]
    assert world.failed() == 0
    # After one, two, four, eight and, where it was not well by then, sixteen seconds.
    assert 4 <= len(opened) <= 6
    assert len([at for at in refused if at >= BEGIN_S + 1.0]) <= 20
    assert world.shares(END_S + 25.0)[0] > 0.75 * world.shares(1.0, BEGIN_S)[0]


@strategies
def test_nobody_rushes_to_a_deployment_whose_rate_limit_is_over(strategy: str) -> None:
    rate = 200.0
    limited = between(5.0, 6.0, always("rate_limit", 0.02, rest_s=3.0), FAVOURITE)
    world = with_outage(strategy, limited, rate=rate, until_s=12.0)

    last = max(one.ended for one in world.asked if one.who == 0 and one.play.outcome == "rate_limit")
    assert sum(one.who == 0 for one in world.between(last + 3.0, last + 4.0)) <= 0.4 * rate


@strategies
def test_a_deployment_that_refuses_our_key_rests_for_long(strategy: str) -> None:
    world = World(strategy, [between(5.0, 300.0, always("auth", 0.02), FAVOURITE), WELL, WELL], prices=PRICES).run(
        640.0, rate=4
    )

    assert world.failed() == 0
    asked = [one for one in world.between(6.0, 640.0) if one.who == 0]
    assert isclose(asked[0].at, 605.0, abs_tol=1.0)
    assert asked[0].probe
    assert world.shares(610.0)[0] > 0.75 * world.shares(1.0, 5.0)[0]


@strategies
@pytest.mark.parametrize("outcome", ["client_error", "hang_up"])
def test_what_clients_do_wrong_never_counts(strategy: str, outcome: str) -> None:
    script = always("client_error") if outcome == "client_error" else always("hang_up")
    world = World(strategy, [script, WELL, WELL], prices=PRICES).run(30.0, rate=10)

    assert world.changes == []
    assert world.health(0).failed_share == 0.0
    assert world.shares()[0] > 0.25


@strategies
def test_failures_that_are_not_in_a_row_open_the_circuit_too(strategy: str) -> None:
    def three_of_five(_now: float, turn: int) -> Play:
        return Play("fails" if turn % 5 in {0, 2, 4} else "answers", 0.05)

    world = World(strategy, [between(5.0, 65.0, three_of_five), WELL, WELL], prices=PRICES).run(65.0, rate=RATE)

    assert world.failed() == 0
    assert world.shares(10.0)[0] < 0.5 * world.shares(1.0, 5.0)[0]


@strategies
def test_a_slow_deployment_is_no_dead_one(strategy: str) -> None:
    world = World(strategy, [between(5.0, 20.0, always(after_s=2.0)), WELL, WELL], prices=PRICES).run(60.0, rate=RATE)

    assert world.changes == []
    slow = world.shares(8.0, 20.0)[0]
    if strategy in {"least_busy", "fastest", "balanced"}:
        assert slow < 0.1
    else:
        assert slow > 0.3
    assert world.shares(50.0)[0] > (0.0 if strategy == "fastest" else 0.2)


def test_least_busy_spares_calls_a_slow_deployment_of_three() -> None:
    scripts = [jitter(0.1), jitter(0.1), jitter(1.0)]

    spared = World("least_busy", scripts).run(60.0, rate=100).percentile_s(99)
    by_turn = World("round_robin", scripts).run(60.0, rate=100).percentile_s(99)

    assert spared * 2 <= by_turn


def test_fastest_finds_the_fastest_and_goes_on_looking() -> None:
    world = World("fastest", [jitter(0.3), jitter(0.1), jitter(0.2)]).run(120.0, rate=RATE)

    shares = world.shares(5.0)
    assert shares[1] > 0.95
    assert shares[0] > 0.003
    assert shares[2] > 0.003


def test_fastest_finds_out_that_a_slow_one_has_become_the_fastest() -> None:
    scripts = [between(0.0, 30.0, always(after_s=1.0), always(after_s=0.05)), WELL, WELL]

    world = World("fastest", scripts).run(120.0, rate=RATE)

    assert world.shares(5.0, 30.0)[0] < 0.03
    assert world.shares(100.0)[0] > 0.9


def test_fastest_sends_one_call_to_each_that_nobody_knows() -> None:
    world = World("fastest", [always(after_s=5.0), WELL, always(after_s=5.0)]).run(4.0, rate=RATE)

    # Nobody has answered in the first 0.12 s.
    assert [one.who for one in world.asked[:3]] == [0, 1, 2]
    assert {one.who for one in world.between(0.13, 4.0)} == {1}


def test_weights_hold_while_one_is_gone_and_after() -> None:
    scripts = [WELL, between(BEGIN_S, END_S, DEAD["refusing"]), WELL]
    world = World("weighted", scripts, weights=[5, 3, 2]).run(60.0, rate=RATE)

    assert world.shares(0.0, 5.0) == pytest.approx([0.5, 0.3, 0.2], abs=0.02)
    assert world.shares(12.0, 20.0) == pytest.approx([5 / 7, 0.0, 2 / 7], abs=0.02)
    assert world.shares(35.0, 60.0) == pytest.approx([0.5, 0.3, 0.2], abs=0.02)


def test_turns_hold_while_one_is_gone_and_after() -> None:
    scripts = [WELL, between(BEGIN_S, END_S, DEAD["refusing"]), WELL]
    world = World("round_robin", scripts).run(60.0, rate=RATE)

    assert world.shares(0.0, 5.0) == pytest.approx([1 / 3] * 3, abs=0.02)
    assert world.shares(12.0, 20.0) == pytest.approx([0.5, 0.0, 0.5], abs=0.02)
    assert world.shares(35.0, 60.0) == pytest.approx([1 / 3] * 3, abs=0.02)


def test_what_began_before_the_circuit_changed_does_not_count() -> None:
    def hangs_then_refuses(now: float, _turn: int) -> Play:
        if now < 0.5:
            return Play("fails", 6.0)
        return Play("fails", 0.013) if now < 1.0 else Play()

    world = World("priority", [hangs_then_refuses, WELL]).run(10.0, rate=RATE)

    assert [change for _, who, change in world.changes if who == 0] == ["opened", "closed"]
    assert world.failed() == 0
    assert world.health(0).failed_share == 0.0


def test_with_all_deployments_dead_each_is_still_probed_and_comes_back() -> None:
    gone = between(BEGIN_S, END_S, DEAD["refusing"])

    world = World("round_robin", [gone] * 3).run(40.0, rate=RATE)

    assert all(call.well for call in world.calls if END_S + 6.0 <= call.at < 39.0)
    assert world.shares(END_S + 12.0) == pytest.approx([1 / 3] * 3, abs=0.02)
    assert len(world.between(10.0, END_S)) < 25
