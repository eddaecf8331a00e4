"""How limits stand: what a key or an organization has left, and how to begin anew."""

from collections.abc import Callable
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.api.admin.asked import Body, Id, admin_only, body_asked, deed, text_in_query
from llmgateway.api.admin.shown import json_answer
from llmgateway.api.admin.writing import in_time, of_store, there
from llmgateway.api.ledger.asking import known_only
from llmgateway.api.ledger.shown import usd
from llmgateway.caller import Caller
from llmgateway.errors import InvalidRequestError
from llmgateway.keys.directory import caller_of
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.stores.base import Limiter, Rules, Standing

# Gives all rules that hold for a caller, whatever it asks; the second is the organization that it acts for.
RulesOf = Callable[[Caller, str | None], Rules]

_SHARED = "gateway_"


class Resetting(Body):
    """Whose counters begin anew."""

    key_id: Id | None = None
    organization_id: Id | None = None


def routes(storage: AdminStorage, limiter: Limiter, rules: RulesOf) -> list[Route]:
    """Serve `/admin/limits`."""
    found = _Found(storage, rules)

    async def read_limits(request: Request) -> Response:
        admin_only(request)
        known_only(request, ("key_id", "organization_id"))
        key_id, organization_id = (text_in_query(request, name) for name in ("key_id", "organization_id"))
        held = await found.rules(key_id, organization_id)
        standing = await of_store(partial(limiter.look, held))
        return json_answer({"key_id": key_id, "organization_id": organization_id, **_shown(held, standing)})

    async def reset_limits(request: Request) -> Response:
        asked = await body_asked(request, Resetting)
        held = await found.rules(asked.key_id, asked.organization_id)
        await of_store(partial(limiter.reset, held))
        names = [rate.name for rate in held.rates] + [cooldown.name for cooldown in held.cooldowns]
        written = deed(
            request,
            "limits.reset",
            asked.key_id or asked.organization_id or "",
            organization_id=asked.organization_id,
            details={"rules": names},
        )
        await in_time(partial(storage.note, [written]))
        return json_answer({"reset": names})

    return [
        Route("/admin/limits", read_limits, methods=["GET"]),
        Route("/admin/limits/reset", reset_limits, methods=["POST"]),
    ]


class _Found:
    """Finds the rules of a key without its organization's, of an organization without any key's, or of both."""

    def __init__(self, storage: AdminStorage, rules: RulesOf) -> None:
        self._storage = storage
        self._rules = rules

    async def rules(self, key_id: str | None, organization_id: str | None) -> Rules:
        """Give them.

        Raises:
            InvalidRequestError: Neither is named.
            NotFoundError: There is no such key or organization.
        """
        if key_id is None and organization_id is None:
            raise InvalidRequestError("Name one: `key_id` or `organization_id`.", param="key_id")
        parts = []
        if key_id is not None:
            caller = await self._key(key_id)
            parts.append(_only(self._rules(caller, caller.organization), ("key", "operation")))
        if organization_id is not None:
            caller = await self._organization(organization_id)
            parts.append(_only(self._rules(caller, organization_id), ("organization",)))
        return Rules(
            *(tuple(rule for part in parts for rule in getattr(part, kind)) for kind in Rules.__struct_fields__)
        )

    async def _key(self, key_id: str) -> Caller:
        if key_id.startswith(_SHARED):  # of the settings, so that nothing is written of it
            return Caller(kind="shared", key_id=key_id)
        return caller_of(await there("key", key_id, self._storage.key), None)

    async def _organization(self, organization_id: str) -> Caller:
        row = await there("organization", organization_id, self._storage.organization)
        return Caller(
            kind="client",
            organization=organization_id,
            organization_limits=row.limits,
            organization_budget=row.budget,
        )


def _only(rules: Rules, scopes: tuple[str, ...]) -> Rules:
    kinds = (
        tuple(rule for rule in getattr(rules, kind) if rule.name.partition(".")[0] in scopes)
        for kind in Rules.__struct_fields__
    )
    return Rules(*kinds)


def _shown(rules: Rules, standing: Standing) -> dict[str, Any]:
    slots = zip(rules.slots, standing.slots, strict=True)
    rests = zip(rules.cooldowns, standing.rests_s, strict=True)
    purses = zip(rules.purses, standing.spent_nusd, strict=True)
    return {
        "rates": [
            {
                "rule": state.rate.name,
                "unit": state.rate.unit,
                "limit": state.rate.limit,
                "period_seconds": state.rate.period_s,
                "burst": state.rate.burst,
                "remaining": state.remaining,
                "reset_seconds": round(state.reset_s, 3),
            }
            for state in standing.rates
        ],
        "concurrent": [{"rule": rule.name, "limit": rule.limit, "in_flight": taken} for rule, taken in slots],
        "cooldowns": [{"rule": rule.name, "rest_seconds": round(rest_s, 3)} for rule, rest_s in rests],
        "budgets": [
            {"rule": purse.name, "usd": usd(purse.hard_nusd), "spent_usd": usd(spent_nusd)}
            for purse, spent_nusd in purses
        ],
    }
