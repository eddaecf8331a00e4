"""Keeps what is sensitive from providers that may not see it: refuses, goes elsewhere, or takes it out."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, Protocol, TypeVar

import msgspec

from llmgateway.catalog import known
from llmgateway.catalog.model import Deployment, Model
from llmgateway.errors import PermissionDeniedError
from llmgateway.exchange import Call, Complete, Event, Exchange, Operation, Reply, Sensitivity
from llmgateway.gateway.target import Target
from llmgateway.routing.choosing.filters import trusted
from llmgateway.sensitivity.bodies import rewritten, texts_of, wants_json
from llmgateway.sensitivity.redact import Redaction
from llmgateway.sensitivity.restoring import RestoredChunks, Restorer
from llmgateway.sensitivity.scan import Findings, Scanner
from llmgateway.storage.admin.rows import Deed

Action = Literal["reroute", "refuse", "redact"]
T = TypeVar("T")
# Above this size a body is searched in a thread, so that others do not wait for it.
_LARGE_BYTES = 256 * 1024
_HARMLESS = Sensitivity(0.0)


class Models(Protocol):
    """What is on offer: the part of the catalog that gives a model instead of another."""

    @property
    def models(self) -> Mapping[str, Model]: ...

    def resolve(self, name: str) -> Model | None: ...


class SensitivityLayer:
    """Looks at every text of a call before anybody else sees it; outside the cache, which so keeps placeholders.

    Args:
        models: Gives the catalog served at this moment, which a reload replaces.
        secure_only: Of the models with a provider that is trusted, these alone may see sensitive texts, best first;
            empty is all of them.
        note: Told of each call above the threshold, never of its text.
    """

    def __init__(
        self,
        scanner: Scanner,
        action: Action,
        *,
        models: Callable[[], Models],
        secure_only: Sequence[str] = (),
        note: Callable[[Deed], None],
        target: Target,
    ) -> None:
        self._scanner = scanner
        self._action = action
        self._models = models
        self._secure_only = tuple(secure_only)
        self._note = note
        self._target = target
        # The operator's own expressions are as slow as they are written: never on the event loop.
        self._large_bytes = 0 if scanner.own else _LARGE_BYTES

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        findings = await self._aside(call.body, self._look)
        if not self._scanner.is_sensitive(findings):
            found = findings.score > 0.0
            exchange.sensitivity = Sensitivity(findings.score, findings.categories) if found else _HARMLESS
            return await self._target.send(exchange, call)
        if self._action == "redact":
            body, values = await self._aside(call.body, self._redact)
            if values is not None:
                return await self._send_redacted(exchange, call, findings, body, values)
        return await self._target.send(exchange, self._confined(exchange, call, findings))

    async def _aside(self, body: bytes, work: Callable[[bytes], T]) -> T:
        return work(body) if len(body) <= self._large_bytes else await asyncio.to_thread(work, body)

    def _look(self, body: bytes) -> Findings:
        return self._scanner.scan(texts_of(body))

    def _redact(self, body: bytes) -> tuple[bytes, Mapping[str, str] | None]:
        """Take out what can be taken out; `None` when what is left is still sensitive, or nothing could be."""
        redaction = Redaction(self._scanner, texts_of(body))
        try:
            rewritten(body, redaction.look)
            redacted = rewritten(body, redaction.replace)
        except ValueError:
            return body, None
        if self._scanner.is_sensitive(self._look(redacted)):
            return body, None
        return redacted, redaction.values

    async def _send_redacted(
        self, exchange: Exchange, call: Call, findings: Findings, body: bytes, values: Mapping[str, str]
    ) -> Reply:
        self._decide(exchange, findings, "redact")
        # What is written down of the call is what was sent of it.
        call = exchange.call = msgspec.structs.replace(call, body=body)
        reply = await self._target.send(exchange, call)
        restorer = Restorer(values, json_content=wants_json(body))
        if isinstance(reply, Complete):
            # A new one: the cache may keep this very object.
            return msgspec.structs.replace(reply, body=restorer.body(reply.body))
        reply.chunks = RestoredChunks(reply.chunks, restorer)
        return reply

    def _confined(self, exchange: Exchange, call: Call, findings: Findings) -> Call:
        """Let only trusted providers see the call. Raises: PermissionDeniedError when there is none for it."""
        model = exchange.model
        if model is None:
            raise TypeError(f"nobody resolved {call.model!r}")
        exchange.min_security, exchange.only_models = "high", self._secure_only
        if not self._may_see(model, exchange):
            # Where the client left it to us which model answers, another one is no detour.
            may_leave = self._action != "refuse" or bool(exchange.others)
            other = self._other(exchange, call.operation) if may_leave else None
            if other is None:
                self._decide(exchange, findings, "refuse")
                raise _refused(model, findings)
            exchange.note(
                Event("reroute", time.perf_counter(), {"from": model.label, "to": other.label, "reason": "sensitivity"})
            )
            exchange.model, exchange.model_label = other, other.label
            call = msgspec.structs.replace(call, model=other.name)
        self._decide(exchange, findings, "reroute")
        return call

    def _other(self, exchange: Exchange, operation: Operation) -> Model | None:
        """Give the first model that may see it, that can do it, and that this caller may use."""
        for model in self._candidates(exchange, operation):
            able = tuple(
                one for one in _trusted(model, exchange) if _does(one, operation) and one.account.wire != "demo"
            )
            if able and self._may_see(model, exchange) and exchange.caller.may_use(model.name):
                return model
        return None

    def _candidates(self, exchange: Exchange, operation: Operation) -> Iterator[Model]:
        catalog = self._models()
        yield from (model for name in exchange.others if (model := catalog.resolve(name)) is not None)
        if self._secure_only:
            yield from (model for name in self._secure_only if (model := catalog.resolve(name)) is not None)
        elif operation != "embedding":
            # Vectors of two models cannot be compared: another one only where it was named.
            yield from catalog.models.values()

    def _may_see(self, model: Model, exchange: Exchange) -> bool:
        return (not self._secure_only or model.name in self._secure_only) and bool(_trusted(model, exchange))

    def _decide(self, exchange: Exchange, findings: Findings, action: Action) -> None:
        exchange.sensitivity = Sensitivity(findings.score, findings.categories, action)
        caller = exchange.caller
        self._note(
            Deed(
                actor=caller.key_id or caller.kind,
                action=f"sensitivity.{action}",
                subject=exchange.id,
                organization_id=exchange.organization,
                details={"score": findings.score, "categories": list(findings.categories)},
            )
        )


def _trusted(model: Model, exchange: Exchange) -> tuple[Deployment, ...]:
    """Give a model's deployments that may see it; with a provider's own key only that provider's."""
    found, caller = trusted(model.deployments, "high"), exchange.caller
    if caller.provider_key is None:
        return found
    return tuple(one for one in found if one.account.provider == caller.provider and one.account.accepts_client_keys)


def _does(deployment: Deployment, operation: Operation) -> bool:
    facts = known.find(deployment.account.provider, deployment.model)
    if facts is not None:
        return facts.mode == operation
    # A model of one's own is in no table: its name says whether it makes vectors.
    return ("embed" in deployment.model.lower()) is (operation == "embedding")


def _refused(model: Model, findings: Findings) -> PermissionDeniedError:
    categories = ", ".join(findings.categories) or "none"
    return PermissionDeniedError(
        f"This text is sensitive ({categories}), and no provider of `{model.name[:200]}` may see it. Take it out, or "
        "ask for a model whose provider has the security level high.",
        param="model",
        code="sensitive_content",
        details={"categories": list(findings.categories), "score": findings.score},
    )
