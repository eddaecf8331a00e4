import pytest

from llmgateway.caller import RouteAsk
from llmgateway.errors import InvalidRequestError
from llmgateway.gateway.route_control import is_true, route_ask


def test_a_client_that_says_nothing_asks_for_nothing() -> None:
    assert route_ask({b"authorization": b"Bearer x", b"x-dry-run": b"true"}) is None


def test_all_that_a_client_can_say_of_the_way_is_read() -> None:
    headers = {
        b"x-route-strategy": b" Cheapest ",
        b"x-max-cost-usd": b"0.05",
        b"x-disable-fallbacks": b"true",
        b"x-task-type": b" code ",
    }

    assert route_ask(headers) == RouteAsk("cheapest", 0.05, alone=True, task="code")


@pytest.mark.parametrize(
    ("name", "value", "asked"),
    [
        (b"x-max-cost-usd", b"0", RouteAsk(max_cost_usd=0.0)),
        (b"x-max-cost-usd", b"1e-6", RouteAsk(max_cost_usd=1e-6)),
        (b"x-disable-fallbacks", b"false", RouteAsk()),
        (b"x-route-strategy", b"least_busy", RouteAsk("least_busy")),
        (b"x-task-type", b"summarization", RouteAsk(task="summarization")),
    ],
)
def test_each_may_come_alone(name: bytes, value: bytes, asked: RouteAsk) -> None:
    assert route_ask({name: value}) == asked


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("X-Route-Strategy", b"random", "priority, weighted, round_robin, least_busy, fastest, cheapest, balanced"),
        ("X-Route-Strategy", b"", "priority"),
        ("X-Route-Strategy", b"\xff", "priority"),
        ("X-Max-Cost-USD", b"cheap", "0.05"),
        ("X-Max-Cost-USD", b"-1", "0.05"),
        ("X-Max-Cost-USD", b"nan", "0.05"),
        ("X-Max-Cost-USD", b"inf", "0.05"),
        ("X-Max-Cost-USD", b"$5", "0.05"),
        ("X-Disable-Fallbacks", b"perhaps", "true or false"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_name_and_what_would_be_right(
    name: str, value: bytes, right: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        route_ask({name.lower().encode(): value})

    assert caught.value.param == name
    assert name in caught.value.message
    assert right in caught.value.message


@pytest.mark.parametrize(
    ("value", "read"),
    [(b"true", True), (b"TRUE ", True), (b"1", True), (b"yes", True), (b"false", False), (b"0", False), (b"", False)],
)
def test_switches_are_read_as_people_write_them(value: bytes, read: bool) -> None:
    assert is_true("X-Dry-Run", value) is read


def test_a_switch_that_is_neither_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="X-Dry-Run must be true or false"):
        is_true("X-Dry-Run", b"maybe")
