import math
from collections import Counter
from collections.abc import Sequence
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.catalog import model as catalog
from llmgateway.catalog.model import Prices
from llmgateway.routing.choosing.candidate import Candidate, Weighing
from llmgateway.routing.choosing.strategies import STRATEGIES, choose, ordered
from llmgateway.routing.health.book import HealthBook
from tests.routing.choosing.simulated import deployment
from tests.timing import relative_cost

NOW = 1000.0
every_strategy = pytest.mark.parametrize("name", STRATEGIES)


def candidates(
    count: int = 3,
    *,
    weights: Sequence[float] = (),
    prices: Sequence[Prices | None] = (),
    paces_s: Sequence[float] = (),
) -> tuple[Candidate, ...]:
    """Give candidates; those with a pace have answered once, in so many seconds, streams and whole answers alike."""
    book = HealthBook(clock=lambda: NOW)
    made = []
    for at in range(count):
        one = deployment(
            at, weight=weights[at] if weights else 1.0, prices=prices[at] if prices else Prices(1e-6, 4e-6)
        )
        health = book.of(one)
        if paces_s and paces_s[at]:
            for stream in (True, False):
                health.answered(NOW - 1.0, NOW - 1.0 - paces_s[at], stream=stream)
        made.append(Candidate(one, health, at))
    return tuple(made)


def weighing(turn: int = 0, *, stream: bool = False, prompt_tokens: int = 1000, answer_tokens: int = 500) -> Weighing:
    return Weighing(NOW, turn, stream, prompt_tokens, answer_tokens)


def picks(name: str, among: Sequence[Candidate], turns: int = 1000) -> Counter[int]:
    return Counter(among[choose(STRATEGIES[name], among, weighing(turn))].place for turn in range(turns))


def places(name: str, among: Sequence[Candidate], turn: int = 1) -> list[int]:
    return [one.place for one in ordered(STRATEGIES[name], among, weighing(turn))]


def busy(one: Candidate, calls: int) -> None:
    for _ in range(calls):
        one.health.begin(NOW)


def open_circuit(one: Candidate, at: float) -> None:
    for _ in range(5):
        one.health.failed(at, at, "failures")


def come_back(one: Candidate, at: float) -> None:
    open_circuit(one, at - 2.0)
    one.health.begin(at)
    one.health.well(at, at, probe=True)
    one.health.end()


def test_every_strategy_of_the_catalog_is_there() -> None:
    assert tuple(STRATEGIES) == get_args(catalog.Strategy)


@every_strategy
def test_one_candidate_is_the_choice(name: str) -> None:
    among = candidates(1)

    assert choose(STRATEGIES[name], among, weighing()) == 0
    assert STRATEGIES[name].pick(among, weighing()) == 0
    assert ordered(STRATEGIES[name], among, weighing()) == [among[0]]


@every_strategy
@given(turn=st.integers(0, 10**12), unmeasured=st.booleans(), unpriced=st.booleans(), stream=st.booleans())
def test_the_order_has_everybody_once_and_begins_with_the_choice(
    name: str, *, turn: int, unmeasured: bool, unpriced: bool, stream: bool
) -> None:
    strategy = STRATEGIES[name]
    among = candidates(
        5,
        prices=[None if unpriced else Prices(1e-6, 1e-6)] * 3
        + [Prices(0.0, 0.0), Prices(1e-6, 1e-6, above=((1, Prices(1, 1)),))],
        paces_s=[0.0 if unmeasured else 0.3, 0.1, 0.2, 0.0, 0.5],
    )
    busy(among[3], 2)
    asked = weighing(turn, stream=stream)

    order = ordered(strategy, among, asked)

    assert order[0] is among[choose(strategy, among, asked)]
    assert sorted(one.place for one in order) == [0, 1, 2, 3, 4]
    assert order == ordered(strategy, among, asked)
    assert not any(math.isnan(score) for score in strategy.scores(among, asked))


@every_strategy
def test_a_turn_always_gives_the_same_choice(name: str) -> None:
    among = candidates(7, weights=range(1, 8), paces_s=[0.1] * 7)

    assert picks(name, among) == picks(name, among)


def test_priority_asks_the_first_in_the_catalog() -> None:
    among = candidates(3)

    assert picks("priority", among) == {0: 1000}
    assert places("priority", among) == [0, 1, 2]


def test_round_robin_asks_each_in_turn_and_goes_on_from_there() -> None:
    among = candidates(4)

    assert [choose(STRATEGIES["round_robin"], among, weighing(turn)) for turn in range(6)] == [0, 1, 2, 3, 0, 1]
    assert places("round_robin", among, turn=2) == [2, 3, 0, 1]


@given(st.lists(st.floats(0.1, 10.0), min_size=2, max_size=8), st.integers(0, 10**9))
def test_weights_are_shares_after_a_few_hundred_calls(weights: list[float], begin: int) -> None:
    among = candidates(len(weights), weights=weights)

    asked = Counter(choose(STRATEGIES["weighted"], among, weighing(begin + turn)) for turn in range(400))

    for at, weight in enumerate(weights):
        assert asked[at] / 400 == pytest.approx(weight / sum(weights), abs=0.02)


def test_weights_hold_for_every_other_call_as_well() -> None:
    among = candidates(3, weights=[5, 3, 2])

    for begin, step in ((0, 2), (1, 2), (2, 3), (0, 10)):
        asked = Counter(choose(STRATEGIES["weighted"], among, weighing(begin + step * turn)) for turn in range(400))
        assert [asked[at] / 400 for at in range(3)] == pytest.approx([0.5, 0.3, 0.2], abs=0.02)


def test_the_heavier_one_is_next() -> None:
    among = candidates(4, weights=[1, 9, 2, 5])

    assert places("weighted", among, turn=0) == [0, 1, 3, 2]


def test_least_busy_looks_at_every_pair_equally_often() -> None:
    among = candidates(4)

    asked = picks("least_busy", among, turns=12_000)

    assert [asked[at] / 12_000 for at in range(4)] == pytest.approx([0.25] * 4, abs=0.02)


def test_least_busy_takes_the_one_with_less_to_do() -> None:
    among = candidates(2, paces_s=[0.1, 0.3])
    assert picks("least_busy", among) == {0: 1000}

    busy(among[0], 3)

    assert picks("least_busy", among) == {1: 1000}
    assert places("least_busy", among) == [1, 0]


def test_least_busy_sends_one_call_to_who_was_not_measured_yet() -> None:
    among = candidates(2, paces_s=[0.1, 0.0])
    assert picks("least_busy", among) == {1: 1000}

    busy(among[1], 1)

    assert picks("least_busy", among) == {0: 1000}


def test_fastest_takes_the_fastest_and_now_and_then_another() -> None:
    among = candidates(3, paces_s=[0.3, 0.1, 0.2])
    among[2].health.answered(NOW, NOW - 0.2, stream=False)
    among[1].health.answered(NOW, NOW - 0.1, stream=False)

    asked = picks("fastest", among, turns=10_000)

    assert asked[1] / 10_000 == pytest.approx(0.98, abs=0.005)
    assert asked[0] / 10_000 == pytest.approx(0.02, abs=0.005)  # measured longest ago
    assert asked[2] == 0
    assert places("fastest", among) == [1, 2, 0]


def test_only_one_call_at_a_time_looks_at_another() -> None:
    among = candidates(2, paces_s=[0.3, 0.1])
    busy(among[0], 1)
    busy(among[1], 10)

    assert picks("fastest", among) == {1: 1000}


def test_streams_and_whole_answers_are_measured_apart() -> None:
    among = candidates(2, paces_s=[0.2, 0.1])
    for _ in range(20):
        among[1].health.answered(NOW, NOW - 9.0, stream=True)

    assert choose(STRATEGIES["fastest"], among, weighing(1, stream=True)) == 0
    assert choose(STRATEGIES["fastest"], among, weighing(1, stream=False)) == 1


@pytest.mark.parametrize("name", ["fastest", "balanced"])
def test_who_was_not_measured_yet_is_asked_by_one_call(name: str) -> None:
    among = candidates(3, paces_s=[0.1, 0.0, 0.0])

    assert choose(STRATEGIES[name], among, weighing(1)) == 1
    busy(among[1], 1)
    assert choose(STRATEGIES[name], among, weighing(1)) == 2
    busy(among[2], 1)
    assert choose(STRATEGIES[name], among, weighing(1)) == 0


@pytest.mark.parametrize("name", ["fastest", "balanced"])
def test_where_nobody_was_measured_the_least_busy_is_asked(name: str) -> None:
    among = candidates(3)
    for one, calls in zip(among, (3, 1, 2), strict=True):
        busy(one, calls)

    assert choose(STRATEGIES[name], among, weighing(1)) == 1
    assert places(name, among) == [1, 2, 0]


def test_cheapest_depends_on_the_call() -> None:
    among = candidates(2, prices=[Prices(1e-6, 20e-6), Prices(5e-6, 5e-6)])

    assert choose(STRATEGIES["cheapest"], among, weighing(prompt_tokens=10_000, answer_tokens=100)) == 0
    assert choose(STRATEGIES["cheapest"], among, weighing(prompt_tokens=100, answer_tokens=1000)) == 1


def test_cheapest_counts_what_long_prompts_cost() -> None:
    among = candidates(2, prices=[Prices(1e-6, 1e-6, above=((1000, Prices(9e-6, 9e-6)),)), Prices(2e-6, 2e-6)])

    assert choose(STRATEGIES["cheapest"], among, weighing(prompt_tokens=1000)) == 0
    assert choose(STRATEGIES["cheapest"], among, weighing(prompt_tokens=1001)) == 1


def test_cheapest_asks_those_without_a_price_last_and_equals_in_their_order() -> None:
    one, two = Prices(1e-6, 1e-6), Prices(2e-6, 2e-6)
    among = candidates(6, prices=[None, two, one, None, one, Prices(0.0, 0.0)])

    assert places("cheapest", among) == [5, 2, 4, 1, 0, 3]
    assert STRATEGIES["cheapest"].scores(among, weighing())[0] == math.inf
    assert places("cheapest", candidates(3, prices=[None] * 3)) == [0, 1, 2]


def test_cheapest_knows_nobodys_price_for_no_tokens() -> None:
    among = candidates(2, prices=[None, Prices(1.0, 1.0)])

    assert choose(STRATEGIES["cheapest"], among, weighing(prompt_tokens=0, answer_tokens=0)) == 1


@pytest.mark.parametrize(
    ("dearer", "slower", "calls", "failures", "best"),
    [
        (1.0, 1.0, 0, 0, 0),  # alike: the first in the catalog
        (1.5, 1.0, 0, 0, 1),
        (1.0, 1.5, 0, 0, 1),
        (1.0, 1.0, 1, 0, 1),
        (1.0, 1.0, 0, 1, 1),
        (3.0, 0.5, 0, 0, 1),  # three times as dear is worse than twice as slow
        (3.0, 0.2, 0, 0, 0),
        (0.1, 5.0, 0, 0, 0),
        (0.1, 5.0, 3, 0, 1),
    ],
)
def test_balanced_weighs_cost_speed_load_and_failures(
    dearer: float, slower: float, calls: int, failures: int, best: int
) -> None:
    among = candidates(2, prices=[Prices(1e-4 * dearer, 0.0), Prices(1e-4, 0.0)], paces_s=[slower, 1.0])
    busy(among[0], calls)
    for _ in range(failures):
        among[0].health.failed(NOW, NOW, "failures")

    assert choose(STRATEGIES["balanced"], among, weighing(1)) == best
    assert places("balanced", among)[0] == best


def test_balanced_scores_say_how_many_times_worse_each_is() -> None:
    among = candidates(3, prices=[Prices(4e-3, 0.0), Prices(1e-3, 0.0), Prices(1e-3, 0.0)], paces_s=[0.5, 1.0, 2.0])
    busy(among[2], 1)

    assert STRATEGIES["balanced"].scores(among, weighing()) == pytest.approx([2.0, 1.0, 4.0], rel=0.001)


def test_balanced_does_not_take_the_free_one_at_any_price() -> None:
    among = candidates(2, prices=[Prices(0.0, 0.0), Prices(1e-6, 0.0)], paces_s=[60.0, 0.5])

    assert picks("balanced", among)[1] > 950


def test_balanced_does_without_prices_where_nobody_has_one() -> None:
    among = candidates(3, prices=[None] * 3, paces_s=[0.3, 0.1, 0.2])
    assert choose(STRATEGIES["balanced"], among, weighing(1)) == 1

    among = candidates(3, prices=[Prices(1e-3, 0.0), None, None], paces_s=[0.3, 0.1, 0.2])
    assert choose(STRATEGIES["balanced"], among, weighing(1)) == 0


def test_balanced_looks_at_another_now_and_then() -> None:
    among = candidates(2, paces_s=[0.1, 9.0])
    among[0].health.answered(NOW, NOW - 0.1, stream=False)

    assert picks("balanced", among, turns=10_000)[1] / 10_000 == pytest.approx(0.02, abs=0.005)


@every_strategy
def test_who_has_rested_enough_is_asked_at_once_by_one_call(name: str) -> None:
    among = candidates(3, paces_s=[0.1, 0.1, 0.1])
    open_circuit(among[2], NOW - 5.0)
    assert choose(STRATEGIES[name], among, weighing(3)) == 2
    assert places(name, among)[0] == 2

    among[2].health.begin(NOW)

    assert not among[2].health.available(NOW)


@every_strategy
def test_the_others_that_rested_stand_behind_those_known_to_be_well(name: str) -> None:
    among = candidates(4, paces_s=[0.1] * 4)
    open_circuit(among[0], NOW - 5.0)
    open_circuit(among[1], NOW - 5.0)

    order = places(name, among)

    assert order[0] == 0
    assert order[-1] == 1


@every_strategy
def test_who_has_just_come_back_gets_a_part_of_its_turns(name: str) -> None:
    among = candidates(3, paces_s=[0.1] * 3)
    come_back(among[0], NOW - 1.0)  # its share is four tenths by now
    before = picks(name, candidates(3), turns=3000) if name in {"weighted", "round_robin"} else Counter({0: 3000})

    asked = picks(name, among, turns=3000)

    assert 0 < asked[0] <= 0.43 * before[0]
    if name in {"weighted", "round_robin"}:
        assert asked[0] / before[0] == pytest.approx(0.4, abs=0.04)
        assert asked[1] == pytest.approx(asked[2], rel=0.05)


@every_strategy
def test_when_all_have_just_come_back_all_are_asked(name: str) -> None:
    among = candidates(3, paces_s=[0.1] * 3)
    for one in among:
        come_back(one, NOW - 0.1)

    assert sum(picks(name, among).values()) == 1000
    if name in {"weighted", "round_robin", "least_busy"}:
        assert min(picks(name, among).values()) > 300


@pytest.mark.alone
@every_strategy
def test_choosing_is_cheap(name: str) -> None:
    ten, hundred = ([0.1 + at / 100 for at in range(count)] for count in (10, 100))
    for paces_s, most in ((ten, 2.0), (hundred, 11.0)):
        among = candidates(len(paces_s), paces_s=paces_s)
        asked = weighing(1)
        strategy = STRATEGIES[name]

        assert relative_cost(lambda: choose(strategy, among, asked), number=1000) < most  # noqa: B023  used at once
