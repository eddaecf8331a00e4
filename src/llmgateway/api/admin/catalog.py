"""The catalog: what is served, where it comes from, and what another file would change."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.api.admin.asked import admin_only, text_asked
from llmgateway.api.admin.shown import address_shown, json_answer, limits_shown
from llmgateway.catalog.load import CatalogError
from llmgateway.catalog.model import Account, Auto, CallerLimits, Deployment, Model
from llmgateway.catalog.snapshot import Catalog
from llmgateway.errors import InvalidRequestError


class Source(Protocol):
    """Holds the catalog that is served."""

    @property
    def current(self) -> Catalog: ...

    @property
    def fault(self) -> str | None: ...

    def preview(self, text: str | None) -> Catalog:
        """Raises: CatalogError."""
        ...

    def hiding(self, text: str) -> Callable[[str], str]:
        """Give what takes the environment's values out of what is told of a text."""
        ...


def routes(source: Source) -> list[Route]:
    """Serve `/admin/catalog` and `/admin/catalog/check`."""

    async def read_catalog(request: Request) -> Response:
        admin_only(request)
        return json_answer({**_shown(source.current), "fault": source.fault})

    async def check_catalog(request: Request) -> Response:
        admin_only(request)
        try:
            text = (await text_asked(request)).decode()
        except UnicodeDecodeError:
            raise InvalidRequestError("The body must be the catalog's YAML, in UTF-8.") from None
        return json_answer(await to_thread.run_sync(_checked, source, text))

    return [
        Route("/admin/catalog", read_catalog, methods=["GET"]),
        Route("/admin/catalog/check", check_catalog, methods=["POST"]),
    ]


def _checked(source: Source, text: str) -> dict[str, Any]:
    hidden = source.hiding(text)
    served = source.current
    try:
        wanted = source.preview(text)
    except CatalogError as error:
        faults = [hidden(fault) for fault in error.faults]
        return {"valid": False, "faults": faults, "warnings": [], "without_effect": [], "changes": None}
    return {
        "valid": True,
        "faults": [],
        "warnings": [hidden(warning) for warning in wanted.warnings],
        "without_effect": wanted.without_effect,
        "changes": {
            "anything": wanted.version != served.version or wanted.webhooks != served.webhooks,
            "providers": _difference(served.accounts, wanted.accounts, hidden),
            "models": _difference(served.models, wanted.models, hidden),
            "passthrough": wanted.passthrough != served.passthrough,
            "auto": wanted.auto != served.auto,
            "equivalents": wanted.own_equivalents != served.own_equivalents,
            "limits": _plain(wanted.limits) != _plain(served.limits),
            "webhooks": wanted.webhooks != served.webhooks,
        },
    }


def _difference(
    before: Mapping[str, object], after: Mapping[str, object], hidden: Callable[[str], str]
) -> dict[str, list[str]]:
    both = before.keys() & after.keys()
    found = {
        "added": after.keys() - before.keys(),
        "removed": before.keys() - after.keys(),
        "changed": {name for name in both if before[name] != after[name]},
    }
    return {kind: sorted(map(hidden, names)) for kind, names in found.items()}


def _shown(catalog: Catalog) -> dict[str, Any]:
    return {
        "version": catalog.version,
        "providers": {
            name: {"origin": catalog.origins.get(name, "file"), **_account(account)}
            for name, account in catalog.accounts.items()
        },
        "models": {name: _model(model) for name, model in catalog.models.items()},
        "passthrough": [entry.pattern for entry in catalog.passthrough],
        "auto": _auto(catalog.auto),
        "own_equivalents": None if catalog.own_equivalents is None else dict(catalog.own_equivalents),
        "limits": _plain(catalog.limits),
        "webhooks": {
            "secret_exists": catalog.webhooks.secret is not None,
            "alerts_url_exists": catalog.webhooks.alerts_url is not None,
        },
        "warnings": catalog.warnings,
        "without_effect": catalog.without_effect,
    }


def _account(account: Account) -> dict[str, Any]:
    return {
        "provider": account.provider,
        "api_base": address_shown(account.api_base),
        "api_key_exists": account.api_key is not None,
        "api_version": account.api_version,
        "security_level": account.security_level,
        "timeout_s": account.timeout_s,
        "limits": limits_shown(account.limits),
        "accept_client_keys": account.accepts_client_keys,
        # Any of them may be a secret.
        "option_names": sorted(account.options),
    }


def _auto(auto: Auto | None) -> dict[str, Any] | None:
    return None if auto is None else {"tasks": dict(auto.tasks), "models": auto.models, "strategy": auto.strategy}


def _model(model: Model) -> dict[str, Any]:
    semantic, fallbacks, hedge = model.semantic, model.fallbacks, model.hedge
    return {
        "strategy": model.strategy,
        "fallbacks": None if fallbacks is None else msgspec.structs.asdict(fallbacks),
        "rescue": model.rescue,
        "hedge": None if hedge is None else msgspec.structs.asdict(hedge),
        "cache_ttl_s": model.cache_ttl_s,
        "semantic_cache": None if semantic is None else msgspec.structs.asdict(semantic),
        "deployments": [_deployment(deployment) for deployment in model.deployments],
    }


def _deployment(deployment: Deployment) -> dict[str, Any]:
    return {
        "id": deployment.row_id,
        "origin": "built_in" if deployment.account.wire == "demo" else "database" if deployment.row_id else "file",
        "provider": deployment.account.name,
        "model": deployment.model,
        "weight": deployment.weight,
        "limits": limits_shown(deployment.limits),
        "context_length": deployment.context_length,
        "max_output_tokens": deployment.max_output_tokens,
        "capabilities": sorted(deployment.capabilities),
        "lacks": sorted(deployment.lacks),
        "tokenizer": deployment.tokenizer,
        "probe_s": deployment.probe_s,
        "priced": deployment.prices is not None,
    }


def _plain(limits: CallerLimits) -> dict[str, Any]:
    return {
        "tiers": {name: limits_shown(tier) for name, tier in limits.tiers.items()},
        "operations": dict(limits.operations),
        "users": limits_shown(limits.users),
        "models": {name: limits_shown(model) for name, model in limits.models.items()},
        "everyone": limits_shown(limits.everyone),
    }
