"""All that document services need, put together: the desk, live events, the queue, who runs jobs in this process."""

import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import anyio
from anyio.abc import TaskGroup
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from llmgateway.api.admin import deployments, providers
from llmgateway.api.admin import organizations as admin_organizations
from llmgateway.api.admin.spending import Standings
from llmgateway.api.health_detailed import queue_part
from llmgateway.catalog.model import ListedModel
from llmgateway.documents.recipe import Count, Recipe
from llmgateway.documents_api import events, execute, jobs, stats, versions
from llmgateway.documents_api.audience import Audience
from llmgateway.documents_api.catalog import accounts, discovering, organizations, tokenizers
from llmgateway.documents_api.entities.routes import routes as entity_routes
from llmgateway.documents_api.shelves.keeping import Keeping
from llmgateway.documents_api.shown import job_json
from llmgateway.documents_api.sockets import Sockets
from llmgateway.engine import Engine
from llmgateway.exchange import Exchange
from llmgateway.gateway.virtual.asking import PREFIX
from llmgateway.gateway.virtual.target import VirtualModels
from llmgateway.jobs.desk import Desk
from llmgateway.jobs.hooks.address import check_url
from llmgateway.jobs.hooks.hooks import Hooks
from llmgateway.jobs.live import Live
from llmgateway.jobs.queue.queues import queue_of
from llmgateway.jobs.running.means import Times
from llmgateway.jobs.running.runner import Runner
from llmgateway.jobs.services import Service
from llmgateway.jobs.sweep import Sweep
from llmgateway.jobs.telling import Telling
from llmgateway.jobs.windows import counting
from llmgateway.jobs.working.consumers import consumers_of
from llmgateway.keys.standing import Standing
from llmgateway.middleware.auth import Auth
from llmgateway.middleware.socket_auth import SocketAuth
from llmgateway.settings import Settings
from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.jobs.rows import EventRow, Wanted
from llmgateway.storage.queries import StorageAwayError
from llmgateway.upstream.discovery import models_of as models_of_account

_DEPTH_EVERY_S = 5.0
# In the body of a job's last event; in a text it costs a look for nothing.
_ENDS = (b'"completed"', b'"failed"', b'"cancelled"')


class Workshop:
    """Document services in one process.

    Args:
        runs_jobs: Whether this process runs jobs itself.
    """

    def __init__(self, engine: Engine, *, runs_jobs: bool) -> None:
        self._engine = engine
        self._runs_jobs = runs_jobs
        settings, protection, logger = engine.settings, engine.protection, engine.logger
        store, recording = protection.store, engine.recording
        self.audience = Audience()
        self.jobs = JobStorage(recording.storage, self._published)
        self.live = Live(self.jobs, store, logger)
        self.queue = queue_of(settings.effective_queue_url, logger)
        self._telling = Telling(recording.metrics.series, recording.traces, logger)
        self.desk = Desk(
            protection.services,
            self.jobs,
            engine.names,
            engine.counter,
            queue=self.queue,
            bell=store.bell,
            teller=self._telling,
            check_hook=self._check_hook,
        )
        self.virtual = VirtualModels(self.desk, self.live, listed=self.listed)
        self.sockets: ASGIApp = Sockets(self._admission(), self.live, self.jobs, self.audience, logger)
        self._hooks = Hooks(self.jobs, lambda: engine.names().webhooks, job_json, logger)
        self._runner = self._made_runner()
        self._consumers = consumers_of(self.queue, self._runner.run_next, settings.worker_threads, logger)
        wake = self._consumers.wake if runs_jobs else None
        self._sweep = Sweep(
            self.jobs, self.queue, logger, wake=wake, given_up=self._given_up, every_s=settings.jobs.sweep_s
        )
        self._waiting: dict[str, float] = {}
        recording.metrics.observe_from("llm_queue_depth", lambda: self._waiting)
        recording.metrics.observe_from("llm_jobs_running", lambda: self._runner.running)

    def routes(self) -> list[BaseRoute]:
        """Give what is served under /api/v1."""
        engine, protection = self._engine, self._engine.protection
        keeping = Keeping(protection.admin, protection.services, engine.names, protection.changed)
        standings = Standings(protection.store.limiter, protection.admin)
        admin = [
            *providers.routes(protection.admin, protection.seal, engine.names, protection.changed),
            *deployments.routes(protection.admin, engine.names, protection.changed),
        ]
        return [
            *execute.routes(self.desk, self.jobs),
            *jobs.routes(self.desk, self.jobs, protection.trail.note),
            *events.routes(self.live, self.jobs, self.audience),
            *versions.routes(self.jobs),
            *stats.routes(protection.services, self.jobs),
            *entity_routes(keeping, engine.gateway.send, engine.recording.recorder.record),
            *tokenizers.routes(engine.counter, engine.names),
            *discovering.routes(protection.admin, engine.names, partial(models_of_account, engine.transport)),
            *accounts.routes(protection.admin, engine.names, admin),
            *organizations.routes(admin_organizations.routes(protection.admin, standings, protection.changed)),
        ]

    async def listed(self, exchange: Exchange) -> list[ListedModel]:
        """Give the services that whoever asks may name as models; none while the database is away."""
        everyone = exchange.caller.kind == "admin" and exchange.organization is None
        try:
            services = await self._engine.protection.services.listed(exchange.organization, everyone=everyone)
        except StorageAwayError:
            return []
        # Two of one route are one name: what it means is listed (`Services.service`).
        meant = sorted(services, key=lambda one: (one.row.organization_id is None) == everyone)
        named = {one.row.route: one for one in meant}.values()
        return [model for service in named if service.row.is_active for model in models_of(service)]

    def queue_part(self) -> dict[str, object]:
        """Say how the queue is, for /health/detailed."""
        broker = self._engine.settings.effective_queue_url is not None
        waiting = int(sum(self._waiting.values()))
        return queue_part(broker=broker, here=self._runs_jobs, waiting=waiting, running=self._runner.running)

    def beside(self, group: TaskGroup) -> None:
        """Start what runs beside the requests."""
        group.start_soon(self._begin, group)

    async def _begin(self, group: TaskGroup) -> None:
        # Nothing can be asked before that, and whoever asks would tell that it is away.
        await self._engine.recording.storage.opened.wait()
        group.start_soon(self.live.run)
        group.start_soon(self._sweep.run)
        group.start_soon(self._hooks.run)
        group.start_soon(self._look_at_depth)
        if self._runs_jobs:
            group.start_soon(self._runner.keep_leases)
            self._consumers.start(group)

    def drain(self) -> None:
        """Take no more jobs, and send away who watches: another process goes on."""
        self._consumers.stop()
        self._runner.stop()
        self.audience.send_away()

    async def leave(self) -> None:
        """Let the calls in flight end, as long as the grace lasts, and hand all jobs back to the queue."""
        self.drain()
        await self._runner.finish(self._engine.settings.shutdown_grace_s)
        try:
            # Others need not wait for their next sweep.
            await self.queue.remind((await self.jobs.sweep(spare=True)).queued)
        except StorageAwayError:
            return

    async def close(self) -> None:
        """Give back what was opened."""
        await self._consumers.close()
        await self._hooks.close()
        await self.queue.close()

    def _made_runner(self) -> Runner:
        engine, store = self._engine, self._engine.protection.store
        settings = engine.settings
        return Runner(
            jobs=self.jobs,
            ask=engine.gateway.send,
            record=engine.recording.recorder.record,
            callers=Standing(engine.protection.admin),
            count=self._count,
            limiter=store.limiter,
            bell=store.bell,
            teller=self._telling,
            worker=f"{platform.node()}-{os.getpid()}",
            logger=engine.logger,
            times=times_of(settings),
            most_tries=settings.retry.jobs.max_retries + 1,
        )

    def _count(self, recipe: Recipe) -> Count:
        return counting(self._engine.counter, recipe.upstream_model, recipe.tokenizer)

    def _admission(self) -> SocketAuth:
        settings, identify = self._engine.settings, self._engine.protection.identify
        auth = partial(Auth, identify=identify, loopback=not settings.binds_wider)
        return SocketAuth(auth, origins=settings.cors_origins)

    async def _check_hook(self, url: str) -> None:
        rules = self._engine.names().webhooks
        await check_url(url, allow_private=rules.allow_private, has_secret=rules.secret is not None)

    def _published(self, job_id: str, rows: Sequence[EventRow]) -> None:
        self.live.published(job_id, rows)
        if any(word in rows[-1].body for word in _ENDS):
            self._hooks.poke()

    async def _given_up(self, job_id: str) -> None:
        job = await self.jobs.job(job_id, Wanted(everyone=True))
        if job is not None:
            self._telling.ended(job)

    async def _look_at_depth(self) -> None:
        """Count what waits, from time to time: the database is not asked at each scrape."""
        while True:
            try:
                depth = await self.jobs.depth()
                self._waiting = {str(priority): float(depth.get(priority, 0)) for priority in range(10)}
            except StorageAwayError:
                pass  # the last figure stays: the jobs have not gone
            await anyio.sleep(_DEPTH_EVERY_S)


def times_of(settings: Settings) -> Times:
    """Say how long a run waits for what."""
    times = Times(request_s=settings.request_timeout_s, lease_s=settings.jobs.lease_s)
    # Each look prolongs the leases: some may come late before one runs out.
    return replace(times, look_every_s=min(times.look_every_s, times.lease_s / 5))


def models_of(service: Service) -> list[ListedModel]:
    """Give a service as models: by itself, and with each of its flavors."""
    name, row = f"{PREFIX}{service.row.route}", service.row
    created = int(row.created_at.timestamp())
    names = [name, *(f"{name}:{flavor.name}" for flavor in service.flavors if flavor.is_active)]
    return [ListedModel(id=one, created=created, owned_by="llmgateway") for one in names]
