"""What an answer used and cost, noted in its exchange; counted here when the upstream tells nothing."""

import msgspec

from llmgateway.catalog.model import Deployment
from llmgateway.exchange import Call, Exchange, Usage
from llmgateway.routing.cost import cost_usd
from llmgateway.routing.estimate import estimate
from llmgateway.tokens import TokenCounter


class Charge:
    """Adds up usage and cost of an exchange's attempts.

    Args:
        counter: Counts the tokens of answers whose upstream does not.
    """

    def __init__(self, counter: TokenCounter) -> None:
        self._counter = counter

    def add(self, exchange: Exchange, deployment: Deployment, usage: Usage) -> None:
        """Note what one attempt used; with one price unknown, the cost of all is."""
        cost = cost_usd(usage, deployment.prices)
        if exchange.usage is None:
            exchange.usage, exchange.cost_usd = usage, cost
            return
        exchange.usage = _sum(exchange.usage, usage)
        exchange.cost_usd = None if cost is None or exchange.cost_usd is None else exchange.cost_usd + cost

    async def counted(self, call: Call, answer: str, deployment: Deployment, told: Usage | None = None) -> Usage:
        """Count what was asked and answered.

        Args:
            told: What the upstream said before it broke off: of the prompt it knows more than we do.
        """
        usage = await estimate(call, answer, self._counter, deployment.model, deployment.tokenizer)
        if told is None:
            return usage
        completion_tokens = max(told.completion_tokens, usage.completion_tokens)
        prompt_tokens = told.prompt_tokens or usage.prompt_tokens
        return msgspec.structs.replace(
            told, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens, estimated=True
        )


def _sum(one: Usage, other: Usage) -> Usage:
    added = {
        name: getattr(one, name) + getattr(other, name) for name in one.__struct_fields__ if name.endswith("_tokens")
    }
    return Usage(**added, service_tier=other.service_tier, estimated=one.estimated or other.estimated)
