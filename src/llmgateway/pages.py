"""Every path that is no model call, put together with what it tells of."""

from typing import Any

from starlette.routing import BaseRoute, Route

from llmgateway.api import health, health_detailed, metrics, models, openapi, root
from llmgateway.api.admin import audit, cache, catalog, deployments, keys, limits, organizations, providers
from llmgateway.api.admin.spending import Standings
from llmgateway.api.ledger import reports, requests, usage
from llmgateway.console import home
from llmgateway.documents_api import openapi_jobs, openapi_live
from llmgateway.documents_api.catalog import openapi_catalog, openapi_organizations
from llmgateway.documents_api.entities import openapi_entities
from llmgateway.engine import Engine
from llmgateway.lifespan import State
from llmgateway.protection import Protection
from llmgateway.recording import LedgerReader
from llmgateway.workshop import Workshop

# What is said of document services, in the order in which it is shown.
DESCRIBED: tuple[openapi.Part, ...] = (
    openapi_jobs.described,
    openapi_live.described,
    openapi_entities.described,
    openapi_catalog.described,
    openapi_organizations.described,
)


def pages(version: str, state: State, engine: Engine, workshop: Workshop) -> list[BaseRoute]:
    """Give the routes; who may take which of them is for `middleware/auth` to say."""
    settings, recording, protection = engine.settings, engine.recording, engine.protection
    reader = LedgerReader(recording.storage, slow_s=settings.slow_request_s)
    flush = recording.shipper.flush
    return [
        *home.routes(version, settings.auth.mode, root.welcome(version)),
        *root.routes(version),
        *_health(version, state, engine, workshop),
        *models.routes(engine.names, workshop.listed),
        *metrics.routes(recording.metrics.render, recording.metrics.summary, enabled=settings.prometheus),
        *requests.routes(recording.recent, reader.find),
        *usage.routes(reader.usage, flush),
        *reports.routes(reader, flush, lambda: state.catalog.current),
        *_admin(state, protection),
        *openapi.routes(version, DESCRIBED),
    ]


def worker_pages(version: str, state: State, engine: Engine, workshop: Workshop) -> list[BaseRoute]:
    """Give what a worker serves: how it is, and what it counted."""
    told = engine.recording.metrics
    return [
        Route("/", root.welcome(version, ["GET /health", "GET /health/live", "GET /health/ready", "GET /metrics"])),
        *_health(version, state, engine, workshop),
        *metrics.routes(told.render, told.summary, enabled=engine.settings.prometheus),
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


def _health(version: str, state: State, engine: Engine, workshop: Workshop) -> list[BaseRoute]:
    settings, recording, protection = engine.settings, engine.recording, engine.protection
    served, journal = state.catalog, recording.journal
    checks = {"database": recording.storage.check}
    if protection.link is not None:
        checks["redis"] = protection.check
    checks["queue"] = workshop.queue.check
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
        "queue": workshop.queue_part,
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
