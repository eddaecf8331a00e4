from dataclasses import dataclass, field

import pytest

from llmgateway.catalog.model import Account, Deployment, Model
from llmgateway.catalog.nearest import Nearest
from llmgateway.errors import RateLimitedError
from llmgateway.exchange import Call, Complete, Exchange, Reply
from llmgateway.gateway.target import Answer, Layer, Target, model_not_found, wrap


def model(name: str) -> Model:
    return Model(name, (Deployment(Account("main", "openai", "openai"), name),))


@dataclass
class Offer:
    """What one caller sees of the catalog: the names of others are there, but not for this one."""

    mine: list[str]
    foreign: list[str] = field(default_factory=list)

    def resolve(self, name: str) -> Model | None:
        return model(name) if name in self.mine else None

    def nearest(self, name: str, count: int = 10) -> list[str]:
        return Nearest(self.mine).find(name, count)


@dataclass
class Says:
    """A target that answers with its own name."""

    name: str

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        return Complete(self.name.encode())


@dataclass
class Around:
    """A layer that puts its name around the answer."""

    name: str
    inner: Target

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        reply = await self.inner.send(exchange, call)
        assert isinstance(reply, Complete)
        return Complete(b"%s(%s)" % (self.name.encode(), reply.body))


def layer(name: str) -> Layer:
    return lambda inner: Around(name, inner)


async def answer(target: Target, name: str = "chat") -> bytes:
    reply = await target.send(Exchange(), Call("chat", name, b"{}"))
    assert isinstance(reply, Complete)
    return reply.body


async def test_the_first_layer_is_the_outermost() -> None:
    target = wrap([layer("limits"), layer("cache")], Says("model"))

    assert await answer(target) == b"limits(cache(model))"


async def test_no_layers_are_the_target_itself() -> None:
    target = Says("model")

    assert wrap([], target) is target


async def test_the_innermost_target_hands_the_call_to_the_models() -> None:
    reply = await Answer(Says("models")).send(Exchange(model=model("chat")), Call("chat", "chat", b"{}"))

    assert reply == Complete(b"models")


async def test_where_limits_let_only_a_kept_answer_pass_nobody_is_asked() -> None:
    refusal = RateLimitedError("no")

    with pytest.raises(RateLimitedError) as caught:
        await Answer(Says("models")).send(Exchange(refusal=refusal), Call("chat", "chat", b"{}"))

    assert caught.value is refusal


def test_only_names_that_the_caller_may_use_are_told() -> None:
    error = model_not_found("gpt4o", Offer(["claude", "gpt-4o", "gpt-4o-mini"]), lambda name: name != "gpt-4o")

    assert error.details is not None
    assert error.details["available_models"] == ["gpt-4o-mini", "claude"]


def test_the_names_that_are_near_are_told() -> None:
    error = model_not_found("gpt4o", Offer(["claude", "gpt-4o", "embed"]))

    assert error.details is not None
    near = error.details["available_models"]
    assert isinstance(near, list)
    assert near[0] == "gpt-4o"
    assert "`gpt4o`" in error.message
    assert "GET /v1/models" in error.message


def test_a_long_name_is_not_repeated_whole() -> None:
    assert len(model_not_found("x" * 100_000, Offer(["chat"])).message) < 400
