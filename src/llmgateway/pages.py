"""Every path that is no model call, put together with what it tells of."""

from typing import Any

from starlette.routing import BaseRoute

from llmgateway.api import health, health_detailed, metrics, models, openapi, root
from llmgateway.api.admin import audit, cache, catalog, deployments, keys, limits, organizations, providers
from llmgateway.api.admin.spending import Standings
from llmgateway.api.ledger import reports, requests, usage
from llmgateway.lifespan import State
from llmgateway.protection import Protection
from llmgateway.recording import LedgerReader, Recording
from llmgateway.settings import Settings


def pages(
    version: str, settings: Settings, state: State, recording: Recording, protection: Protection
) -> list[BaseRoute]:
    """Give the routes; who may take which of them is for `middleware/auth` to say."""
    reader = LedgerReader(recording.storage, slow_s=settings.slow_request_s)
    flush = recording.shipper.flush
    return [
        *root.routes(version),
        *_health(version, settings, state, recording, protection),
        *models.routes(lambda: state.catalog.current),
        *metrics.routes(recording.metrics.render, recording.metrics.summary, enabled=settings.prometheus),
        *requests.routes(recording.recent, reader.find),
        *usage.routes(reader.usage, flush),
        *reports.routes(reader, flush, lambda: state.catalog.current),
        *_admin(state, protection),
        *openapi.routes(version),
    ]


def _admin(state: State, protection: Protection) -> list[BaseRoute]:
    storage, changed, store = protection.admin, protection.changed, protection.store
    spending = Standings(store.limiter, storage)

    def current() -> Any:
        return state.catalog.current

    return [
        *keys.routes(storage, current, spending, changed),
        *organizations.routes(storage, spending, changed),
        *providers.routes(storage, protection.seal, current, changed),
        *deployments.routes(storage, current, changed),
        *cache.routes(protection.cache_admin, storage),
        *limits.routes(storage, store.limiter, protection.book.of_caller),
        *audit.routes(storage),
        *catalog.routes(state.catalog),
    ]


def _health(
    version: str, settings: Settings, state: State, recording: Recording, protection: Protection
) -> list[BaseRoute]:
    served, journal = state.catalog, recording.journal
    checks = {"database": recording.storage.check}
    if protection.link is not None:
        checks["redis"] = protection.check
    probes: dict[str, Any] = {
        "draining": lambda: state.draining,
        "catalog_fault": lambda: served.fault,
        "catalog_whole": lambda: served.whole,
        "checks": checks,
    }
    parts: dict[str, health_detailed.Part] = {
        "catalog": lambda: health_detailed.catalog_part(served.current.version, has_fault=served.fault is not None),
        "ledger": lambda: health_detailed.ledger_part(journal.backlog_bytes, journal.backlog_s, journal.lost),
        "cache": lambda: health_detailed.cache_part(protection.kept, enabled=settings.cache.enabled),
        "rate_limiter": lambda: health_detailed.limiter_part(
            enabled=settings.limits_enabled, shared=protection.store.shared, up=protection.store.up
        ),
    }
    return [
        *health.routes(version, **probes),
        *health_detailed.routes(
            version,
            **probes,
            providers=lambda: recording.health.states(protection.telling.circuits(served.current)),
            parts=parts,
        ),
    ]
