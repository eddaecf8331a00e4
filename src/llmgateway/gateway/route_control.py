"""What a client says of the way its call takes: the headers that begin with X-Route, X-Max-Cost and the like."""

import math
from typing import cast, get_args

from llmgateway.caller import RouteAsk
from llmgateway.catalog.model import Strategy
from llmgateway.errors import InvalidRequestError

ROUTE_HEADERS = frozenset({b"x-route-strategy", b"x-max-cost-usd", b"x-disable-fallbacks", b"x-task-type"})
STRATEGIES: tuple[str, ...] = get_args(Strategy)
_TRUE = frozenset({"true", "1", "yes"})
_FALSE = frozenset({"false", "0", "no", ""})


def route_ask(headers: dict[bytes, bytes]) -> RouteAsk | None:
    """Read them; `None` when there are none. Raises: InvalidRequestError, naming the header."""
    strategy, cost = headers.get(b"x-route-strategy"), headers.get(b"x-max-cost-usd")
    alone, task = headers.get(b"x-disable-fallbacks"), headers.get(b"x-task-type")
    if strategy is None and cost is None and alone is None and task is None:
        return None
    return RouteAsk(
        None if strategy is None else _strategy(strategy.decode("latin-1").strip().lower()),
        None if cost is None else _cost_usd(cost),
        alone is not None and is_true("X-Disable-Fallbacks", alone),
        None if task is None else task.decode("latin-1").strip(),
    )


def is_true(name: str, value: bytes) -> bool:
    """Read a switch. Raises: InvalidRequestError."""
    text = value.decode("latin-1").strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise InvalidRequestError(f"{name} must be true or false.", param=name)


def _strategy(text: str) -> Strategy:
    if text not in STRATEGIES:
        raise InvalidRequestError(f"X-Route-Strategy must be one of {', '.join(STRATEGIES)}.", param="X-Route-Strategy")
    return cast("Strategy", text)


def _cost_usd(value: bytes) -> float:
    try:
        cost_usd = float(value)
    except ValueError:
        cost_usd = math.nan
    if not 0 <= cost_usd < math.inf:
        raise InvalidRequestError(
            "X-Max-Cost-USD must be an amount of US dollars such as 0.05, 0 or more.", param="X-Max-Cost-USD"
        )
    return cost_usd
