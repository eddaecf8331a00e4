"""Says which calls may be answered from the cache, and under which key: all that can change an answer is in it."""

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from blake3 import blake3

from llmgateway.caller import CacheAsk
from llmgateway.catalog.model import Deployment, Model
from llmgateway.exchange import Call, Exchange, Reply
from llmgateway.gateway.target import Answering, Target
from llmgateway.wire.codec import FIELDS, LONG_BYTES, Fields

Mode = Literal["deterministic", "all", "opt_in"]
Scope = Literal["organization", "key", "global"]

# Above this size a body is read in a thread, so that others do not wait for it.
_LARGE_BYTES = 256 * 1024
_MOST_MODELS = 1024
# Fields that say nothing of the answer.
_SILENT = frozenset({"user", "metadata", "stream"})
_NULL = b"null"
_ZERO = msgspec.Raw(b"0")
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
        self._enabled = enabled
        self._opt_in = mode == "opt_in"
        self._chooses = mode == "deterministic"
        self._unasked = enabled and not self._opt_in
        self._keys = KeyMaker(scope)

    def send(self, exchange: Exchange, call: Call) -> Answering:
        model, ask = exchange.model, exchange.cache_ask
        may = self._unasked if ask is None else self._may_keep(ask)
        if may and model is not None and exchange.caller.provider_key is None:
            if len(call.body) > _LARGE_BYTES:
                return self._send_large(exchange, call, model)
            exchange.cache_key = self._key(exchange, call, model)
        return self._target.send(exchange, call)

    async def _send_large(self, exchange: Exchange, call: Call, model: Model) -> Reply:
        exchange.cache_key = await asyncio.to_thread(self._key, exchange, call, model)
        return await self._target.send(exchange, call)

    def _may_keep(self, ask: CacheAsk) -> bool:
        return self._enabled and not ask.no_store and (not self._opt_in or ask.ttl_s is not None)

    def _key(self, exchange: Exchange, call: Call, model: Model) -> str | None:
        known = call.fields
        fields = FIELDS.decode(call.body) if known is None else known.of(call.body)
        if self._chooses and not deterministic(call, fields, model):
            return None
        return "answer:" + self._keys.digest(exchange, call, model, fields)


class KeyMaker:
    """Makes a digest over everything that can change an answer, and over whose it is: SHA-256, BLAKE3 for long bodies.

    Args:
        scope: Who shares answers.
    """

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._of_models: dict[int, tuple[Model, str]] = {}

    def digest(self, exchange: Exchange, call: Call, model: Model, fields: Fields) -> str:
        """Give it as hex; `user`, `metadata` and `stream` are taken out of `fields`, nothing else is left out."""
        if not _SILENT.isdisjoint(fields):
            for name in _SILENT:
                fields.pop(name, None)
        found = exchange.sensitivity
        action, whose = "none" if found is None else found.action, self._tenant(exchange)
        # JSON, so that no two rows of parts make the same text.
        parts = (call.operation, action, exchange.min_security, whose, self._of_model(model), fields)
        if len(call.body) > LONG_BYTES:
            return _digest_of_long(parts, fields)
        return hashlib.sha256(_SORTED.encode(parts)).hexdigest()

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

    def _of_model(self, model: Model) -> str:
        # By identity: models are immutable, and a reload makes new ones. The model is kept, so that its id stays its.
        found = self._of_models.get(id(model))
        if found is None:
            if len(self._of_models) >= _MOST_MODELS:
                self._of_models.clear()
            found = self._of_models[id(model)] = (model, _described(model))
        return found[1]


def _digest_of_long(parts: tuple[object, ...], fields: Fields) -> str:
    """Make a digest of the same text, its values hashed where they are instead of being copied into it.

    BLAKE3 (https://github.com/BLAKE3-team/BLAKE3-specs) takes less than half of SHA-256's time for them.
    """
    digest = blake3(_SORTED.encode((*parts[:-1], {})).removesuffix(b"}]"))
    between = b""
    for name in sorted(fields):
        digest.update(between + _SORTED.encode(name) + b":")
        digest.update(fields[name])
        between = b","
    digest.update(b"}]")
    return digest.hexdigest()


def _described(model: Model) -> str:
    """Make the SHA-256 over what a model stands for: its deployments, where they are and what is sent to them."""
    described = _SORTED.encode([model.name, *(_described_deployment(one) for one in model.deployments)])
    return hashlib.sha256(described).hexdigest()


def _described_deployment(one: Deployment) -> list[Any]:
    account = one.account
    where = [account.name, account.provider, account.wire, account.api_base, account.api_version, account.options]
    return [*where, one.model, one.drop_unsupported, one.defaults]


def deterministic(call: Call, fields: Mapping[str, msgspec.Raw], model: Model) -> bool:
    """Whether the same answer may be expected again, the catalog's defaults counted as if the client had sent them."""
    if call.operation == "embedding":
        return True
    if _is_zero(fields.get("temperature")) or _is_set(fields.get("seed")):
        return True
    for one in model.deployments:
        if not _by_default(one.defaults, fields):
            return False
    return bool(model.deployments)


def _by_default(defaults: Mapping[str, Any], fields: Mapping[str, msgspec.Raw]) -> bool:
    if not defaults:
        return False
    # Named by the client, even as null: then no default stands in for it.
    seed = "seed" not in fields and defaults.get("seed") is not None
    return seed or ("temperature" not in fields and defaults.get("temperature") == 0)


def _is_zero(given: msgspec.Raw | None) -> bool:
    if given is None:
        return False
    try:
        return given == _ZERO or float(bytes(given)) == 0
    except ValueError:
        return False


def _is_set(given: msgspec.Raw | None) -> bool:
    return given is not None and bytes(given) != _NULL
