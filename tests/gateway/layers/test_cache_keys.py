import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmgateway
from llmgateway.caller import CacheAsk, Caller
from llmgateway.catalog.model import Model
from llmgateway.exchange import Call, Complete, Exchange, Operation, Reply, Sensitivity
from llmgateway.gateway.layers import cache_keys
from llmgateway.gateway.layers.cache_keys import CacheKeys, KeyMaker, Mode, Scope
from llmgateway.wire.codec import Fields
from tests.deployments import deployment
from tests.timing import relative_cost

MODEL = Model("chat", (deployment(),))
SCHEMAS = json.loads((Path(llmgateway.__file__).parent / "api/openapi.json").read_text())["components"]["schemas"]
CHAT = {"model": "chat", "temperature": 0, "messages": [{"role": "user", "content": "hi"}]}
REQUESTS: dict[Operation, tuple[str, dict[str, Any]]] = {
    "chat": ("ChatCompletionRequest", CHAT),
    "completion": ("CompletionRequest", {"model": "chat", "prompt": "hi"}),
    "embedding": ("EmbeddingRequest", {"model": "chat", "input": "hi"}),
}


class Reads:
    async def send(self, exchange: Exchange, call: Call) -> Reply:
        return Complete(b"{}")


async def key_of(
    body: dict[str, Any] | bytes,
    *,
    operation: Operation = "chat",
    mode: Mode = "all",
    scope: Scope = "organization",
    enabled: bool = True,
    **exchange: Any,
) -> str | None:
    asked = Exchange(**{"model": MODEL, **exchange})
    layer = CacheKeys(Reads(), mode=mode, scope=scope, enabled=enabled)
    await layer.send(asked, Call(operation, "chat", body if isinstance(body, bytes) else json.dumps(body).encode()))
    return asked.cache_key


def values_of(schema: dict[str, Any]) -> Iterator[Any]:
    """Give two values that a schema allows, or might: the key must not care."""
    one_of = schema.get("anyOf") or schema.get("oneOf")
    kinds = schema.get("type", "string")
    kind = kinds if isinstance(kinds, str) else kinds[0]
    if "enum" in schema:
        yield from schema["enum"][:2]
    elif one_of:
        for each in one_of:
            yield from values_of(each)
    elif "$ref" in schema:
        yield from ({"type": "text", "text": "a"}, {"type": "text", "text": "b"})
    elif kind == "array":
        for value in values_of(schema.get("items", {})):
            yield [value]
    else:
        yield from {
            "boolean": (True, False),
            "integer": (1, 2),
            "number": (0.25, 0.5),
            "string": ("a", "b"),
            "object": ({"a": 1}, {"a": 2}),
            "null": (None,),
        }[kind]


def cases() -> Iterator[Any]:
    for operation, (name, body) in REQUESTS.items():
        properties = SCHEMAS[name]["properties"]
        assert len(properties) > 3
        for field, schema in properties.items():
            yield pytest.param(operation, body, field, schema, id=f"{operation}-{field}")


@pytest.mark.parametrize(("operation", "body", "field", "schema"), list(cases()))
async def test_pitfall_050_051_requests_that_differ_in_one_field_share_nothing(
    operation: Operation, body: dict[str, Any], field: str, schema: dict[str, Any]
) -> None:
    bodies = [body | {field: value} for value in [*values_of(schema), "llmgateway-test"]]
    bodies.append({name: value for name, value in body.items() if name != field})
    different = {json.dumps(each, sort_keys=True) for each in bodies}

    keys = {await key_of(each, operation=operation) for each in bodies}

    assert None not in keys
    # These three say nothing of the answer.
    assert len(keys) == (1 if field in {"user", "metadata", "stream"} else len(different))


@pytest.mark.parametrize(
    "change",
    [
        {"messages": [{"role": "user", "content": "hi", "name": "bob"}]},
        {"messages": [{"role": "system", "content": "hi"}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
        {"messages": [{"role": "user", "content": "h"}, {"role": "user", "content": "i"}]},
        {"stream_options": {"include_usage": True}},
        {"stream_options": {"include_usage": False}},
        {"tools": [], "tool_choice": "none"},
        {"tool_choice": "none"},
        {"a_field_of_the_providers_own": 1},
        {"temperature": 0.0},
        {"user_": "x"},
    ],
)
async def test_pitfall_051_every_further_field_counts(change: dict[str, Any]) -> None:
    assert await key_of(CHAT | change) != await key_of(CHAT)


async def test_the_order_of_fields_does_not_count() -> None:
    assert await key_of(dict(reversed(CHAT.items()))) == await key_of(CHAT)


async def test_the_operation_counts() -> None:
    assert await key_of(CHAT, operation="completion") != await key_of(CHAT)


@pytest.mark.parametrize(
    "model",
    [
        Model("other", (deployment(),)),
        Model("chat", (deployment(model="gpt-5"),)),
        Model("chat", (deployment("second"),)),
        Model("chat", (deployment(provider="groq"),)),
        Model("chat", (deployment(api_base="https://other.example/v1"),)),
        Model("chat", (deployment(drop_unsupported=True),)),
        Model("chat", (deployment(defaults={"top_p": 0.5}),)),
        Model("chat", (deployment(options={"aws_region_name": "eu-west-1"}),)),
        Model("chat", (deployment(), deployment("second"))),
    ],
)
async def test_what_the_model_stands_for_counts(model: Model) -> None:
    assert await key_of(CHAT, model=model) != await key_of(CHAT)
    # A catalog that was read again and says the same.
    assert await key_of(CHAT, model=replace(model)) == await key_of(CHAT, model=model)


async def test_what_was_found_in_the_text_counts() -> None:
    found: list[dict[str, Any]] = [
        {},
        {"sensitivity": Sensitivity(0.9, action="redact")},
        {"sensitivity": Sensitivity(0.9, action="reroute")},
        {"min_security": "high"},
    ]

    assert len({await key_of(CHAT, **each) for each in found}) == len(found)
    assert await key_of(CHAT, sensitivity=Sensitivity(0.1)) == await key_of(CHAT)


A, B = Caller(kind="client", key_id="key_a"), Caller(kind="client", key_id="key_b")


@pytest.mark.parametrize(
    ("scope", "one", "other", "shared"),
    [
        ("organization", {"organization": "acme", "caller": A}, {"organization": "acme", "caller": B}, True),
        ("organization", {"organization": "acme"}, {"organization": "other"}, False),
        ("organization", {"caller": A}, {"caller": B}, False),
        ("organization", {"caller": A}, {"caller": A}, True),
        ("organization", {"caller": A}, {}, False),
        ("organization", {"organization": "key_a"}, {"caller": A}, False),
        ("organization", {"caller": Caller(kind="admin")}, {}, False),
        ("organization", {}, {}, True),
        ("key", {"organization": "acme", "caller": A}, {"organization": "acme", "caller": B}, False),
        ("key", {"organization": "acme", "caller": A}, {"organization": "acme", "caller": A}, True),
        ("key", {"organization": "acme"}, {"organization": "other"}, False),
        ("global", {"organization": "acme", "caller": A}, {"organization": "other", "caller": B}, True),
    ],
)
async def test_pitfall_052_whose_it_is_counts(
    scope: Scope, one: dict[str, Any], other: dict[str, Any], shared: bool
) -> None:
    keys = [await key_of(CHAT, scope=scope, **each) for each in (one, other)]

    assert (keys[0] == keys[1]) is shared


async def test_scopes_themselves_never_meet() -> None:
    keys = {
        await key_of(CHAT, scope=scope, caller=A, organization="acme") for scope in ("organization", "key", "global")
    }

    assert len(keys) == 3


DETERMINISTIC: list[tuple[dict[str, Any], dict[str, Any], bool]] = [
    ({}, {}, False),
    ({"temperature": 0}, {}, True),
    ({"temperature": 0.0}, {}, True),
    ({"temperature": 1}, {}, False),
    ({"temperature": "0"}, {}, False),
    ({"temperature": False}, {}, False),
    ({"seed": 0}, {}, True),
    ({"seed": None}, {}, False),
    ({}, {"temperature": 0}, True),
    ({}, {"seed": 7}, True),
    ({}, {"top_p": 0.1}, False),
    ({"temperature": 1}, {"temperature": 0}, False),
    ({"temperature": None}, {"temperature": 0}, False),
    ({"temperature": 1}, {"seed": 7}, True),
]


@pytest.mark.parametrize(("fields", "defaults", "kept"), DETERMINISTIC)
async def test_deterministic_is_what_would_be_the_same_again(
    fields: dict[str, Any], defaults: dict[str, Any], kept: bool
) -> None:
    body = {"model": "chat", "messages": CHAT["messages"], **fields}
    model = Model("chat", (deployment(defaults=defaults), deployment("second", defaults=defaults)))

    assert (await key_of(body, mode="deterministic", model=model) is not None) is kept
    # A longer one is looked at before it is parsed.
    longer = {**body, "messages": [{"role": "user", "content": "hi " * 1000}]}
    assert (await key_of(longer, mode="deterministic", model=model) is not None) is kept


async def test_embeddings_are_deterministic_and_defaults_must_hold_everywhere() -> None:
    mixed = Model("chat", (deployment(defaults={"temperature": 0}), deployment("second")))

    assert await key_of({"model": "chat", "input": "hi"}, mode="deterministic", operation="embedding")
    assert await key_of({"model": "chat"}, mode="deterministic", model=mixed) is None


@pytest.mark.parametrize(
    ("mode", "ask", "kept"),
    [
        ("all", None, True),
        ("all", CacheAsk(no_cache=True), True),
        ("all", CacheAsk(no_store=True), False),
        ("opt_in", None, False),
        ("opt_in", CacheAsk(no_cache=True), False),
        ("opt_in", CacheAsk(ttl_s=60), True),
        ("opt_in", CacheAsk(ttl_s=60, no_store=True), False),
    ],
)
async def test_what_the_client_says(mode: Mode, ask: CacheAsk | None, kept: bool) -> None:
    assert (await key_of(CHAT, mode=mode, cache_ask=ask) is not None) is kept


async def test_nothing_is_kept_of_a_providers_own_key_or_when_switched_off() -> None:
    own = Caller(kind="provider", provider="openai", provider_key="sk-own")

    assert await key_of(CHAT, caller=own) is None
    assert await key_of(CHAT, enabled=False) is None
    assert await key_of(CHAT, model=None) is None


async def test_a_large_body_has_the_same_kind_of_key() -> None:
    long = CHAT | {"messages": [{"role": "user", "content": "a" * 300_000}]}

    key = await key_of(long)

    assert key is not None
    assert (len(key), key[:7]) == (71, "answer:")
    assert key == await key_of(long)


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=3), max_size=8))
def test_a_long_bodys_key_is_made_of_the_same_text(given_fields: dict[str, Any]) -> None:
    body = json.dumps(given_fields).encode()
    keys = []
    for long_bytes in (0, len(body)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cache_keys, "LONG_BYTES", long_bytes)
            patch.setattr(cache_keys, "blake3", hashlib.sha256)
            fields = msgspec.json.decode(body, type=Fields)
            exchange = Exchange(organization="acme")
            keys.append(KeyMaker("organization").digest(exchange, Call("chat", "chat", body), MODEL, fields))

    assert keys[0] == keys[1]


@pytest.mark.alone
def test_a_small_bodys_key_costs_a_few_microseconds() -> None:
    maker, exchange, body = KeyMaker("organization"), Exchange(organization="acme"), json.dumps(CHAT).encode()
    call = Call("chat", "chat", body)

    cost = relative_cost(
        lambda: maker.digest(exchange, call, MODEL, msgspec.json.decode(body, type=Fields)), number=2000
    )

    assert cost < 4


async def test_a_large_body_that_may_be_answered_otherwise_has_no_key() -> None:
    long = {**CHAT, "messages": [{"role": "user", "content": "x" * 300_000}]}

    assert await key_of({**long, "temperature": 0.7}, mode="deterministic") is None
    assert await key_of(long, mode="deterministic") is not None
    assert await key_of({**long, "temperature": 1, "seed": 3}, mode="deterministic") is not None
