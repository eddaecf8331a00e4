from pathlib import Path

import pytest

from llmgateway.catalog.model import Prices
from llmgateway.exchange import Call, Exchange, Usage
from llmgateway.routing.charge import Charge
from llmgateway.tokens import TokenCounter
from tests.deployments import deployment

PRICED = deployment(prices=Prices(input=0.001, output=0.01))
UNPRICED = deployment(prices=None)
CHAT = Call("chat", "chat", b'{"model":"chat","messages":[{"role":"user","content":"Say hello to everybody here."}]}')


@pytest.fixture
def charge() -> Charge:
    return Charge(TokenCounter())


def test_an_attempts_usage_and_cost_are_the_exchanges(charge: Charge) -> None:
    exchange = Exchange()

    charge.add(exchange, PRICED, Usage(10, 2))

    assert exchange.usage == Usage(10, 2)
    assert exchange.cost_usd == pytest.approx(0.03)


def test_two_attempts_that_both_used_something_add_up(charge: Charge) -> None:
    exchange = Exchange()

    charge.add(exchange, PRICED, Usage(10, 2, cached_tokens=4, estimated=True))
    charge.add(exchange, PRICED, Usage(5, 1, cached_tokens=1, service_tier="flex"))

    assert exchange.usage == Usage(15, 3, cached_tokens=5, estimated=True, service_tier="flex")
    assert exchange.cost_usd is not None
    assert exchange.cost_usd > 0


@pytest.mark.parametrize("deployments", [(UNPRICED,), (PRICED, UNPRICED), (UNPRICED, PRICED)])
def test_pitfall_043_with_one_price_unknown_the_cost_is_unknown_and_not_nothing(
    charge: Charge, deployments: tuple[object, ...]
) -> None:
    exchange = Exchange()

    for one in deployments:
        charge.add(exchange, one, Usage(10, 2))  # type: ignore[arg-type]  # a tuple of deployments

    assert exchange.usage is not None
    assert exchange.cost_usd is None


async def test_what_nobody_told_is_counted_and_says_so(charge: Charge) -> None:
    usage = await charge.counted(CHAT, "Hello to all of you!", PRICED)

    assert usage.estimated
    assert 5 <= usage.prompt_tokens <= 20
    assert 4 <= usage.completion_tokens <= 8


async def test_of_the_prompt_the_upstream_knows_more_and_of_the_answer_we_do(charge: Charge) -> None:
    told = Usage(1000, 1, cached_tokens=900)

    usage = await charge.counted(CHAT, "Hello to all of you!", PRICED, told)

    assert (usage.prompt_tokens, usage.cached_tokens, usage.estimated) == (1000, 900, True)
    assert usage.completion_tokens > 1


async def test_without_tables_the_count_is_rough_but_there(tmp_path: Path) -> None:
    usage = await Charge(TokenCounter(tmp_path)).counted(CHAT, "Hello to all of you!", PRICED)

    assert usage.estimated
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens > 0
