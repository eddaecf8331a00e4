"""Says which calls may be answered from the cache, and under which key: all that can change an answer is in it."""

import asyncio
import hashlib
import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from llmgateway.catalog.model import Deployment, Model
from llmgateway.exchange import Call, Exchange, Reply
from llmgateway.gateway.target import Answering, Target
from llmgateway.wire.codec import holds, places

Mode = Literal["deterministic", "all", "opt_in"]
Scope = Literal["organization", "key", "global"]
Fields = dict[str, msgspec.Raw]

# Above this size a body is read in a thread, so that others do not wait for it.
_LARGE_BYTES = 256 * 1024
_MOST_MODELS = 1024
_NULL = b"null"
_MAY_BE_ZERO = re.compile(rb'"temperature"(?!\s*:\s*[0-9.]*[1-9])')
_FIELDS = msgspec.json.Decoder(Fields)
# Sorted names, each value as it came: one text for one set of fields, and never the same for two.
_SORTED = msgspec.json.Encoder(order="sorted", enc_hook=dict)


class CacheKeys:
    """Computes `exchange.cache_key`, or leaves it empty: then nothing is read, kept or shared.

    Args:
        mode: `deterministic` keeps answers that would be the same again: temperature 0, a seed, embeddings. `opt_in`
            keeps where `X-Cache-TTL` asks for it.
        scope: Who shares answers.
        enabled: Whether any are kept.
    """

    def __init__(self, target: Target, *, mode: Mode, scope: Scope, enabled: bool = True) -> None:
        self._target = target
        self._mode = mode
        self._enabled = enabled
        self._keys = KeyMaker(scope)

    def send(self, exchange: Exchange, call: Call) -> Answering:
        model = exchange.model
        if model is None or not self._enabled or not self._may_ask(exchange):
            return self._target.send(exchange, call)
        if len(call.body) > _LARGE_BYTES:
            return self._send_large(exchange, call, model)
        if self._mode == "deterministic" and not _may_be_deterministic(call, model):
            return self._target.send(exchange, call)
        exchange.cache_key = self._key(exchange, call, model)
        return self._target.send(exchange, call)

    async def _send_large(self, exchange: Exchange, call: Call, model: Model) -> Reply:
        if self._mode != "deterministic" or await asyncio.to_thread(_may_be_deterministic, call, model):
            exchange.cache_key = await asyncio.to_thread(self._key, exchange, call, model)
        return await self._target.send(exchange, call)

    def _may_ask(self, exchange: Exchange) -> bool:
        ask = exchange.cache_ask
        if exchange.caller.provider_key is not None or (ask is not None and ask.no_store):
            return False
        return self._mode != "opt_in" or (ask is not None and ask.ttl_s is not None)

    def _key(self, exchange: Exchange, call: Call, model: Model) -> str | None:
        fields = _FIELDS.decode(call.body)
        if self._mode == "deterministic" and not deterministic(call, fields, model):
            return None
        return "answer:" + self._keys.digest(exchange, call, model, fields)


class KeyMaker:
    """Makes the SHA-256 over everything that can change an answer, and over whose it is.

    Args:
        scope: Who shares answers.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._of_models: dict[int, tuple[Model, bytes]] = {}

    def digest(self, exchange: Exchange, call: Call, model: Model, fields: Fields) -> str:
        """Give it as hex; `user`, `metadata` and `stream` are taken out of `fields`, nothing else is left out."""
        for name in ("user", "metadata", "stream"):
            fields.pop(name, None)
        found = exchange.sensitivity
        whose = f"{call.operation} {'none' if found is None else found.action} {exchange.min_security}"
        tenant = self._tenant(exchange).encode()
        body = _SORTED.encode(fields)
        # Each part says how long it is, so that no two rows of parts make the same text.
        head = b"%b:%d:%b:%d:" % (whose.encode(), len(tenant), tenant, len(body))
        return hashlib.sha256(b"%b%b%b" % (head, body, self._of_model(model))).hexdigest()

    def _tenant(self, exchange: Exchange) -> str:
        """Say whose the answer is. Two callers without any identity are the same one: nobody could tell them apart."""
        scope, organization, key_id = self._scope, exchange.organization, exchange.caller.key_id
        if scope == "global":
            return "global"
        if organization is not None and (scope == "organization" or key_id is None):
            return "organization " + organization
        if key_id is not None:
            return f"key {key_id}" if organization is None else f"key {key_id} of {organization}"
        return "kind " + exchange.caller.kind

    def _of_model(self, model: Model) -> bytes:
        # By identity: models are immutable, and a reload makes new ones. The model is kept, so that its id stays its.
        found = self._of_models.get(id(model))
        if found is None:
            if len(self._of_models) >= _MOST_MODELS:
                self._of_models.clear()
            found = self._of_models[id(model)] = (model, _described(model))
        return found[1]


def _described(model: Model) -> bytes:
    """Write down what a model stands for, as JSON: its deployments, where they are and what is sent to them."""
    return _SORTED.encode([model.name, *(_described_deployment(one) for one in model.deployments)])


def _described_deployment(one: Deployment) -> list[Any]:
    account = one.account
    where = [account.name, account.provider, account.wire, account.api_base, account.api_version, account.options]
    return [*where, one.model, one.drop_unsupported, one.defaults]


def _may_be_deterministic(call: Call, model: Model) -> bool:
    """Look before anything is parsed: most calls name a temperature that is not 0, or none, and no seed."""
    body = call.body
    if call.operation == "embedding" or holds(body, b'"seed"'):
        return True
    name = b'"temperature"'
    if holds(body, name) and any(_MAY_BE_ZERO.match(body, at) for at in places(body, name)):
        return True
    for one in model.deployments:  # noqa: SIM110  `any` would make a generator for each call
        if one.defaults:
            return True
    return False


def deterministic(call: Call, fields: Mapping[str, msgspec.Raw], model: Model) -> bool:
    """Whether the same answer may be expected again, the catalog's defaults counted as if the client had sent them."""
    if call.operation == "embedding":
        return True
    if _is_zero(fields.get("temperature")) or _is_set(fields.get("seed")):
        return True
    # Named by the client, even as null: then no default stands in for it.
    open_names = [name for name in ("temperature", "seed") if name not in fields]
    return all(_by_default(one.defaults, open_names) for one in model.deployments) and bool(model.deployments)


def _by_default(defaults: Mapping[str, Any], names: list[str]) -> bool:
    if not defaults:
        return False
    return any(
        defaults.get(name) is not None and (name == "seed" or defaults[name] == 0) for name in names if name in defaults
    )


def _is_zero(given: msgspec.Raw | None) -> bool:
    if given is None:
        return False
    try:
        return float(bytes(given)) == 0
    except ValueError:
        return False


def _is_set(given: msgspec.Raw | None) -> bool:
    return given is not None and bytes(given) != _NULL
