"""A deployment as a strategy sees it, made once for each model of a catalog."""

import math

from msgspec import Struct

from llmgateway.catalog.model import Deployment, Prices
from llmgateway.routing.health.health import Health

UNPRICED = math.inf


class Candidate:
    """One deployment of a model, its health, and the figures that each choice needs.

    Args:
        place: Its place in the catalog's list, 0 first.
        name: The account and the model, `main/gpt-4o`.

    Args of the state: where it `is_plain`, tokens cost `input_usd` and `output_usd` each, whatever their number.
    """

    __slots__ = ("_prices", "deployment", "health", "input_usd", "is_plain", "name", "output_usd", "place", "weight")

    def __init__(self, deployment: Deployment, health: Health, place: int) -> None:
        self.deployment = deployment
        self.health = health
        self.place = place
        self.name = f"{deployment.account.name}/{deployment.model}"
        self.weight = deployment.weight
        prices: Prices | None = deployment.prices
        self._prices = prices
        self.input_usd = UNPRICED if prices is None else prices.input
        self.output_usd = UNPRICED if prices is None else prices.output
        self.is_plain = prices is not None and not prices.above

    def cost_usd(self, prompt_tokens: int, answer_tokens: int) -> float:
        """What a call would cost here; infinity when nobody knows."""
        if self._prices is None:
            return UNPRICED
        prices = self._prices.for_request(prompt_tokens, None)
        return prompt_tokens * prices.input + answer_tokens * prices.output


class Weighing(Struct, gc=False):
    """What a choice depends on besides the candidates.

    Args:
        now: `time.perf_counter` seconds.
        turn: Grows by one with every call of the model: all chance comes from it, so that a choice can be foretold.
        prompt_tokens, answer_tokens: About what the call will use.
    """

    now: float
    turn: int
    stream: bool = False
    prompt_tokens: int = 0
    answer_tokens: int = 0
