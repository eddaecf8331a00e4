import time

import pytest

from llmgateway.catalog.model import Hedging, Model
from llmgateway.exchange import Attempt
from llmgateway.routing.choosing.routes import Route, Routes
from llmgateway.routing.failover.patience import Patience
from llmgateway.routing.health.begun import Begun
from llmgateway.routing.health.book import HealthBook
from tests.routed import at


def route_of(hedge: Hedging | None = None) -> tuple[Route, HealthBook]:
    book = HealthBook()
    return Routes(book, 0).of(Model("chat", (at("a"), at("b")), hedge=hedge)), book


def begun(route: Route, ago_s: float) -> Begun:
    candidate = route.pool.candidates[0]
    return Begun(Attempt(candidate.deployment, time.perf_counter() - ago_s), candidate.health)


def measured(route: Route, took_s: float) -> None:
    now = time.perf_counter()
    for one in route.pool.candidates:
        for _ in range(32):
            one.health.whole.add(now, took_s)


def test_without_a_hedge_only_a_long_silence_counts() -> None:
    route, _ = route_of()

    assert Patience(2.5).seconds(route, begun(route, 0), route.pool.candidates, stream=False) == 2.5


def test_a_hedge_waits_for_its_percentile() -> None:
    route, _ = route_of(Hedging(95, 0.03))
    measured(route, 0.4)

    assert Patience(2.5).seconds(route, begun(route, 0), route.pool.candidates, stream=False) == pytest.approx(0.4)
    assert Patience(2.5).seconds(route, begun(route, 0), route.pool.candidates, stream=True) == 2.5


def test_hedges_are_paid_from_what_the_calls_before_left() -> None:
    route, _ = route_of(Hedging(95, 0.03))
    measured(route, 0.4)
    patience, hedged = Patience(2.5), 0
    for _ in range(1000):
        one = begun(route, 0.5)
        patience.seconds(route, one, route.pool.candidates, stream=False)
        hedged += patience.verdict(route, route.pool.candidates, one, stream=False) == "hedge"

    assert 29 <= hedged <= 31


@pytest.mark.parametrize(("waited_s", "verdict"), [(2.6, 0.4), (3.1, "silence")])
def test_a_silence_is_three_times_what_the_slowest_took(waited_s: float, verdict: object) -> None:
    route, _ = route_of()
    measured(route, 1.0)

    said = Patience(2.5).verdict(route, route.pool.candidates, begun(route, waited_s), stream=False)

    assert said == verdict or said == pytest.approx(verdict, abs=0.05)


@pytest.mark.parametrize(("ago_s", "verdict"), [(0.0, 2.5), (1.0, 1.5), (3.0, "silence")])
def test_who_was_heard_since_is_alive_until_it_falls_silent_too(ago_s: float, verdict: object) -> None:
    route, _ = route_of()
    measured(route, 0.01)
    one = begun(route, 60)
    one.health.heard_at = time.perf_counter() - ago_s

    said = Patience(2.5).verdict(route, route.pool.candidates, one, stream=False)

    assert said == verdict or said == pytest.approx(verdict, abs=0.05)


def test_while_nobody_knows_how_long_calls_take_it_is_looked_again() -> None:
    route, _ = route_of()

    assert Patience(2.5).verdict(route, route.pool.candidates, begun(route, 60), stream=False) == 2.5


def test_a_probe_gets_a_few_times_what_it_took_before_and_never_less_than_a_quarter_second() -> None:
    for took_s, patience_s in ((0.01, 0.25), (2.0, 6.0)):
        route, book = route_of()
        measured(route, took_s)
        health = route.pool.candidates[0].health
        now = book.clock()
        health.rest_until(now - 2, now - 1, "failures")
        one = begun(route, 0)

        assert one.is_probe
        waits_s = Patience(2.5).seconds(route, one, route.pool.candidates, stream=False)
        assert waits_s == pytest.approx(patience_s)
        assert Patience(2.5).verdict(route, route.pool.candidates, one, stream=False) == "probe"


@pytest.mark.parametrize(("took_s", "patience_s"), [(0.1, 2.5), (2.0, 12.0)])
def test_a_probe_that_failed_often_gets_longer_but_no_client_waits_for_it_for_long(
    took_s: float, patience_s: float
) -> None:
    route, book = route_of()
    measured(route, took_s)
    health = route.pool.candidates[0].health
    for _ in range(5):
        now = book.clock()
        health.rest_until(now - 2, now - 1, "failures")
        health.failed(now, now, "failures")
        health.until = now - 1
    one = begun(route, 0)

    assert (one.is_probe, health.rests) == (True, 5)
    assert Patience(2.5).seconds(route, one, route.pool.candidates, stream=False) == pytest.approx(patience_s)


def test_silence_may_be_nobodys_business() -> None:
    route, _ = route_of()
    measured(route, 0.01)
    patience = Patience(0)

    assert patience.seconds(route, begun(route, 0), route.pool.candidates, stream=False) is None
    assert patience.verdict(route, route.pool.candidates, begun(route, 60), stream=False) is None
