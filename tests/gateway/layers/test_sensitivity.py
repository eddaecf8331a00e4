import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from msgspec import structs

from llmgateway.caller import Caller
from llmgateway.catalog.model import Account, Deployment, Model, SecurityLevel
from llmgateway.errors import PermissionDeniedError
from llmgateway.exchange import Call, Complete, Exchange, Operation, Reply, Sensitivity, Streamed
from llmgateway.gateway.layers.sensitivity import Action, SensitivityLayer
from llmgateway.sensitivity.scan import Scanner
from llmgateway.storage.admin.rows import Deed
from tests.sensitivity.examples import GITHUB
from tests.timing import relative_cost

MAIL = "maria@example.org"


def model(name: str, *levels: SecurityLevel, wire: Literal["openai", "demo"] = "openai", its: str = "own") -> Model:
    accounts = [Account(f"{name}-{n}", "openai", wire, security_level=level) for n, level in enumerate(levels)]
    return Model(name, tuple(Deployment(account, its) for account in accounts))


MODELS = [
    model("chat", "medium", "low"),
    model("demo/echo", "high", wire="demo"),
    model("embed-house", "high", its="text-embed"),
    model("embed", "medium", its="text-embed"),
    model("house", "high"),
    model("house-2", "high"),
    model("mixed", "medium", "high"),
]


@dataclass
class Catalog:
    models: Mapping[str, Model]

    def resolve(self, name: str) -> Model | None:
        return self.models.get(name)


@dataclass
class Provider:
    """The layers below: keeps what it saw and answers with what it was asked, as a model that repeats would."""

    calls: list[Call] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        self.calls.append(call)
        asked = json.loads(call.body)
        text = asked["messages"][-1]["content"] if "messages" in asked else str(asked.get("input"))
        reply: Reply = Streamed(pieces(text)) if call.stream else Complete(answer(text))
        self.replies.append(reply)
        return reply


class pieces:  # noqa: N801  reads as what it gives
    """A stream of events, one for each character."""

    def __init__(self, text: str) -> None:
        self._text = iter([*text, None])
        self.closed = False

    def __aiter__(self) -> "pieces":
        return self

    async def __anext__(self) -> bytes:
        for char in self._text:
            delta = {"content": char} if char else {}
            choice = {"index": 0, "delta": delta, "finish_reason": None if char else "stop"}
            return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


def answer(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


def said(body: bytes) -> str:
    return str(json.loads(body)["choices"][0]["message"]["content"])


def asked(text: str, name: str = "chat", *, stream: bool = False, **more: Any) -> Call:
    body = json.dumps({"model": name, "messages": [{"role": "user", "content": text}], **more}).encode()
    return Call("chat", name, body, stream=stream)


def exchange_for(name: str, operation: Operation = "chat", caller: Caller | None = None) -> Exchange:
    found = next(one for one in MODELS if one.name == name)
    exchange = Exchange(model=found, model_label=name, operation=operation, organization="org_1")
    if caller is not None:
        exchange.caller = caller
    return exchange


class World:
    def __init__(self, action: Action = "reroute", *, scanner: Scanner | None = None, **given: Any) -> None:
        self.provider = Provider()
        self.deeds: list[Deed] = []
        catalog = Catalog({one.name: one for one in MODELS})
        self.layer = SensitivityLayer(
            scanner or Scanner(),
            action,
            models=lambda: catalog,
            note=self.deeds.append,
            target=self.provider,
            **given,
        )

    async def send(self, call: Call, **given: Any) -> tuple[Exchange, Reply]:
        exchange = exchange_for(call.model, call.operation, **given)
        return exchange, await self.layer.send(exchange, call)


@pytest.mark.parametrize("action", ["reroute", "refuse", "redact"])
async def test_below_the_threshold_nothing_changes(action: Action) -> None:
    world = World(action)
    call = asked(f"write to {MAIL}")

    exchange, reply = await world.send(call)

    assert exchange.sensitivity == Sensitivity(0.25, ("personal",))
    assert world.provider.calls[0] is call
    assert reply is world.provider.replies[0]
    assert (exchange.min_security, world.deeds) == (None, [])


async def test_refused_where_no_provider_of_the_model_is_trusted() -> None:
    world = World("refuse")

    with pytest.raises(PermissionDeniedError, match=r"sensitive \(authentication, secret\)") as refused:
        await world.send(asked(f"my password, and {GITHUB}"))

    assert (refused.value.status, refused.value.code) == (403, "sensitive_content")
    assert GITHUB not in str(refused.value.message) + str(refused.value.details)
    assert world.provider.calls == []
    assert [deed.action for deed in world.deeds] == ["sensitivity.refuse"]


@pytest.mark.parametrize("action", ["refuse", "reroute"])
async def test_trusted_providers_of_the_same_model_may_see_it(action: Action) -> None:
    world = World(action)

    exchange, _ = await world.send(asked(GITHUB, "mixed"))

    assert exchange.min_security == "high"
    assert exchange.model is not None
    assert exchange.model.name == "mixed"
    assert exchange.events == []
    assert exchange.sensitivity == Sensitivity(1.0, ("secret",), "reroute")


async def test_rerouted_to_the_first_model_that_is_trusted_and_is_no_demo() -> None:
    world = World("reroute")

    exchange, _ = await world.send(asked(GITHUB))

    assert exchange.model is not None
    assert (exchange.model.name, exchange.model_label, exchange.min_security) == ("house", "house", "high")
    assert world.provider.calls[0].model == "house"
    assert [(event.name, event.attributes["to"]) for event in exchange.events] == [("reroute", "house")]
    (deed,) = world.deeds
    assert deed == Deed(
        actor="anyone",
        action="sensitivity.reroute",
        subject=exchange.id,
        organization_id="org_1",
        details={"score": 1.0, "categories": ["secret"]},
    )


async def test_rerouted_only_to_models_that_the_caller_may_use() -> None:
    caller = Caller(kind="client", key_id="key_1", models=("chat", "house-*"))
    world = World("reroute")

    exchange, _ = await world.send(asked(GITHUB), caller=caller)

    assert exchange.model is not None
    assert exchange.model.name == "house-2"
    assert world.deeds[0].actor == "key_1"
    with pytest.raises(PermissionDeniedError):
        await world.send(asked(GITHUB), caller=structs.replace(caller, models=("chat",)))


async def test_a_provider_s_own_key_goes_to_no_other_provider() -> None:
    caller = Caller(kind="provider", provider="openai", provider_key="sk-own")

    with pytest.raises(PermissionDeniedError):
        await World("reroute").send(asked(GITHUB), caller=caller)


async def test_secure_only_models_are_taken_in_their_order_and_no_others() -> None:
    world = World("reroute", secure_only=("gone", "chat", "house-2", "house"))

    exchange, _ = await world.send(asked(GITHUB, "mixed"))

    assert exchange.model is not None
    assert exchange.model.name == "house-2"
    with pytest.raises(PermissionDeniedError):
        await World("refuse", secure_only=("house",)).send(asked(GITHUB, "mixed"))


async def test_a_demo_answers_when_it_was_asked_itself() -> None:
    exchange, _ = await World("reroute").send(asked(GITHUB, "demo/echo"))

    assert exchange.model is not None
    assert exchange.model.name == "demo/echo"


async def test_vectors_come_from_another_model_only_where_it_was_named() -> None:
    call = Call("embedding", "embed", json.dumps({"model": "embed", "input": [GITHUB]}).encode())

    with pytest.raises(PermissionDeniedError):
        await World("reroute").send(call)
    exchange, _ = await World("reroute", secure_only=("house", "embed-house")).send(call)

    assert exchange.model is not None
    assert exchange.model.name == "embed-house"


async def test_redacted_before_it_is_sent_and_restored_after() -> None:
    world = World("redact")

    exchange, reply = await world.send(asked(f"is {GITHUB} of {MAIL} still good?"))

    assert isinstance(reply, Complete)
    assert said(reply.body) == f"is {GITHUB} of {MAIL} still good?"
    sent = world.provider.calls[0].body
    assert json.loads(sent)["messages"][0]["content"] == "is [GITHUB_TOKEN_1] of [EMAIL_1] still good?"
    assert exchange.min_security is None
    assert exchange.sensitivity == Sensitivity(1.0, ("personal", "secret"), "redact")
    assert exchange.call is not None
    assert GITHUB.encode() not in exchange.call.body


async def test_what_the_cache_keeps_has_placeholders() -> None:
    world = World("redact")

    _, reply = await world.send(asked(GITHUB))

    (kept,) = world.provider.replies
    assert isinstance(kept, Complete)
    assert isinstance(reply, Complete)
    assert said(kept.body) == "[GITHUB_TOKEN_1]"
    assert said(reply.body) == GITHUB


async def test_a_stream_of_single_characters_is_restored() -> None:
    _, reply = await World("redact").send(asked(f"<{GITHUB}>", stream=True))

    assert isinstance(reply, Streamed)
    events = [json.loads(event[6:]) async for event in reply.chunks]
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events) == f"<{GITHUB}>"


@pytest.mark.parametrize("more", [{"tools": [{"function": {"description": GITHUB}}]}, {"metadata": {"a": GITHUB}}])
async def test_what_cannot_be_taken_out_goes_only_where_it_may(more: dict[str, Any]) -> None:
    world = World("redact")

    exchange, _ = await world.send(asked("hello", **more))

    assert exchange.model is not None
    assert (exchange.model.name, exchange.min_security) == ("house", "high")
    assert exchange.sensitivity is not None
    assert exchange.sensitivity.action == "reroute"


async def test_words_above_a_low_threshold_cannot_be_taken_out_either() -> None:
    world = World("redact", scanner=Scanner(threshold=0.1))

    exchange, _ = await world.send(asked("the salary and the diagnosis"))

    assert exchange.sensitivity is not None
    assert exchange.sensitivity.action == "reroute"


@pytest.mark.parametrize("place", ["system", "tool"])
async def test_every_message_is_looked_at(place: str) -> None:
    messages = [{"role": place, "content": [{"type": "text", "text": GITHUB}]}, {"role": "user", "content": "hello"}]
    world = World("refuse")

    with pytest.raises(PermissionDeniedError):
        await world.send(asked("", messages=messages))


async def test_a_large_body_is_searched_too() -> None:
    world = World("redact", scanner=Scanner(patterns=[r"EMP-\d{6}"]))
    text = "word " * 100_000 + GITHUB + " EMP-204518"

    _, reply = await world.send(asked(text))

    assert isinstance(reply, Complete)
    assert said(reply.body) == text
    assert world.provider.calls[0].body.endswith(b'word [GITHUB_TOKEN_1] [CUSTOM_1]"}]}')


async def test_who_asks_nobody_for_the_model_is_at_fault() -> None:
    world = World()

    with pytest.raises(TypeError, match="nobody resolved"):
        await world.layer.send(Exchange(), asked(GITHUB))


@pytest.mark.alone
def test_a_harmless_call_of_ten_kilobytes_costs_less_than_a_millisecond() -> None:
    world = World()
    call, exchange = asked("All work and no play makes for a dull text. " * 230), exchange_for("chat")

    def send() -> None:
        with pytest.raises(StopIteration):
            world.layer.send(exchange, call).send(None)
        world.provider.calls.clear()
        world.provider.replies.clear()

    assert relative_cost(send, number=20) < 330
