"""All that stands between callers and providers, put together: keys, shared store, limits, budgets, cache, audit."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Literal

import anyio
from anyio.abc import TaskGroup
from structlog.typing import FilteringBoundLogger

from llmgateway.catalog.model import Limits as LimitValues
from llmgateway.catalog.snapshot import Catalog
from llmgateway.catalog.snapshot import Webhooks as Address
from llmgateway.catalog.source import CatalogSource
from llmgateway.catalog_rows import CatalogRows
from llmgateway.gateway.answers.entry import unpack
from llmgateway.gateway.answers.makers import MakersLayer
from llmgateway.gateway.budgets import BudgetWatch
from llmgateway.gateway.cache_admin import CacheAdmin, Tally
from llmgateway.gateway.coalescing import Flights
from llmgateway.gateway.explain import Explain
from llmgateway.gateway.layers.access import Access
from llmgateway.gateway.layers.cache import Cache
from llmgateway.gateway.layers.cache_keys import CacheKeys
from llmgateway.gateway.layers.embedding import Embedder
from llmgateway.gateway.layers.idempotency import Idempotency
from llmgateway.gateway.layers.limits import Limits
from llmgateway.gateway.layers.semantic_cache import SemanticCache
from llmgateway.gateway.layers.sensitivity import SensitivityLayer
from llmgateway.gateway.rules import RuleBook
from llmgateway.gateway.spending import Spending
from llmgateway.gateway.target import Layer, Target, wrap
from llmgateway.jobs.services import Services
from llmgateway.keys.directory import Directory
from llmgateway.keys.modes import Identify
from llmgateway.keys.together import Together
from llmgateway.keys.used import Used
from llmgateway.keys.watch import BELL, Watch
from llmgateway.recording import Recording
from llmgateway.routing.choosing.auto import AutoModel
from llmgateway.routing.choosing.planner import Planner
from llmgateway.routing.health.shared import SharedHealth
from llmgateway.routing.health.telling import Telling
from llmgateway.routing.makers import Makers
from llmgateway.sensitivity.scan import Scanner
from llmgateway.settings import Settings
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.admin.rows import Deed
from llmgateway.storage.admin.sealing import LazySeal
from llmgateway.storage.admin.trail import Trail
from llmgateway.stores.base import Spent, Store, StoreAwayError, ValuesStatus
from llmgateway.stores.fallback import FallbackStore
from llmgateway.stores.memory.limiter import MemoryLimiter
from llmgateway.stores.memory.store import MemoryStore
from llmgateway.stores.memory.values import MemoryValues
from llmgateway.stores.redis.limiter import RedisLimiter
from llmgateway.stores.redis.link import RedisLink
from llmgateway.stores.redis.store import RedisStore
from llmgateway.telemetry.metrics import Metrics
from llmgateway.telemetry.webhooks import Webhooks
from llmgateway.tokens import TokenCounter

_STATUS_EVERY_S = 15.0
_FLUSH_LIMIT_S = 1.0
_MOST_ANSWERS = 1_000_000  # where only their bytes are limited


class Protection:
    """What protects callers from each other, and providers from callers, in one process.

    Raises:
        ValueError: A key of the settings is none, or is meant for two purposes.
    """

    def __init__(
        self,
        settings: Settings,
        logger: FilteringBoundLogger,
        catalog: CatalogSource,
        recording: Recording,
        *,
        planner: Planner,
        counter: TokenCounter,
    ) -> None:
        self._settings = settings
        self._planner = planner
        self._auto = AutoModel(planner)
        self._counter = counter
        self._catalog = catalog
        self._recording = recording
        self._guessed = 0
        self.admin = AdminStorage(recording.storage)
        self.trail = Trail(self.admin, logger)
        self.webhooks = Webhooks(self._alerts_address, logger)
        self.budgets = BudgetWatch(logger, self.webhooks.send)
        self.link = None if settings.redis_url is None else RedisLink(settings.redis_url, logger=logger)
        self.store: Store = self._store(self.budgets.spent)
        self.book = RuleBook(
            lambda: catalog.current,
            enabled=settings.limits_enabled,
            default_tier=settings.limits.default_tier,
            overrides=_overrides(settings),
        )
        self.makers = Makers(self.store.values, recording.book)
        self.telling = Telling(recording.book, logger, self.webhooks.send)
        self._shared_health = SharedHealth(recording.book, self.store)
        self.spending = Spending(self.store, self._spent)
        self.tally = Tally()
        self._flights = Flights(self.store.values, unpack, shared=None if self.link is None else self._is_shared)
        self.cache_admin = CacheAdmin(self.store.values, self.tally)
        self.kept = ValuesStatus()
        self.seal = LazySeal(settings.data_dir, [key.get_secret_value() for key in settings.encryption_keys], logger)
        self.directory = Directory(Together(self.admin))
        self._used = Used(self.admin.touched, logger)
        self._rows = CatalogRows(self.admin, self.seal, catalog, logger)
        self.services = Services(self.admin)
        self._watch = Watch(self.admin, self.store.bell, [self.directory, self._rows, self.services], logger)
        self.identify = self._identify()
        self._observe(recording.metrics)

    def around(self, answer: Target) -> Target:
        """Put around what answers all that a call passes before, whoever makes it."""
        return wrap(self._layers(answer), answer)

    def explaining(self) -> Target:
        """Give what answers dry runs: whoever may not make a call is not told its plan."""
        explain = Explain(self._planner, self._counter, self.book, self.store.limiter, self._names)
        seen = sensitivity_layers(self._settings, self._names, _unnoted)
        access = partial(Access, self._names, self._auto, peek=True)
        return wrap([access, *seen, partial(MakersLayer, self.makers)], explain)

    def limits(self, target: Target) -> Limits:
        """Wrap a target in the limits and budgets."""
        settings = self._settings
        return Limits(
            self.store,
            self.book,
            target,
            planner=self._planner,
            names=self._names,
            spending=self.spending,
            watch=self.budgets,
            unpriced=settings.limits.unpriced,
            fail_open=settings.limits.fail_open,
            request_s=settings.request_timeout_s,
            flights=None if self.link is None else self._flights,
        )

    async def changed(self) -> None:
        """Take what an administrator wrote, here at once, elsewhere as soon as it is heard."""
        self.store.bell.ring(BELL)
        await self._watch.look()

    async def check(self) -> str | bool:
        """Answer readiness: without Redis calls go on, counted by each process, unless a setting says otherwise."""
        if self.link is None or self.link.up:
            return True
        return "away, each process counts for itself" if self._settings.limits.fail_open else False

    def beside(self, group: TaskGroup) -> None:
        """Start what runs beside the requests."""
        group.start_soon(self.store.run)
        group.start_soon(self._shared_health.run)
        group.start_soon(self.telling.run, self.store.values)
        group.start_soon(self._flights.run)
        group.start_soon(self._repeats.run)
        group.start_soon(self._listen)
        group.start_soon(self._rows.run)
        group.start_soon(self.trail.run)
        group.start_soon(self._used.run)
        group.start_soon(self.directory.run)
        group.start_soon(self.budgets.run, self.store.values)
        group.start_soon(self.spending.reread, self._counts_apart)
        group.start_soon(self._look_at_cache)

    async def _listen(self) -> None:
        # Nothing can be heard before that, and what was written earlier is to be known right then.
        await self._recording.storage.opened.wait()
        await self._watch.run()

    async def close(self) -> None:
        """Bring away what waits, each part within two seconds."""
        await self._used.close()
        await self.trail.close()
        await self.store.close()
        await self.webhooks.close()

    def _layers(self, answer: Target) -> list[Layer]:
        """Give the layers, from the outside in."""
        settings, values = self._settings, self.store.values
        # First of all: a kept answer too is for those who may use the model.
        layers: list[Layer] = [partial(Access, self._names, self._auto)]
        # Before whatever keeps answers: what is kept is what was sent, without what was taken out. And before limits:
        # another model may have other ones.
        layers += [*sensitivity_layers(settings, self._names, self.trail.note), self._idempotent]
        # Before limits, which choose among the deployments.
        layers.append(partial(MakersLayer, self.makers))
        if not settings.cache.enabled:
            return [*layers, self.limits]
        keys = partial(CacheKeys, mode=settings.cache.mode, scope=settings.cache.scope)
        embed = Embedder(self.limits(answer), self._names, self._recording.recorder.record)
        semantic = partial(
            SemanticCache,
            values=values,
            names=self._names,
            embed=embed,
            scope=settings.cache.scope,
            ttl_s=settings.cache.ttl_s,
        )
        # A kept answer is read in the round trip that asks for leave, so its key must be known before.
        return [*layers, keys, self.limits, self._cache, semantic]

    def _names(self) -> Catalog:
        return self._catalog.current

    def _store(self, spent: Spent) -> Store:
        cache = self._settings.cache
        values = MemoryValues(
            max_bytes=cache.max_bytes,
            max_entries=cache.max_entries or _MOST_ANSWERS,
            max_other_bytes=self._settings.idempotency.max_bytes,
        )
        own = MemoryStore(MemoryLimiter(spent=spent, read=values.look), values)
        if self.link is None:
            return own
        shared = RedisStore(self.link, RedisLimiter(self.link, spent=spent))
        return FallbackStore(shared, own, fail_open=self._settings.limits.fail_open, counted=self._guess)

    def _identify(self) -> Identify:
        auth = self._settings.auth
        admin, metrics = self._settings.admin_key, self._settings.metrics_key
        return Identify(
            auth.mode,
            gateway_keys=[key.get_secret_value() for key in auth.gateway_keys],
            admin_key=None if admin is None else admin.get_secret_value(),
            metrics_key=None if metrics is None else metrics.get_secret_value(),
            directory=self.directory,
            accepted=self._accepted,
            used=self._used.note,
        )

    def _accepted(self) -> set[str]:
        accounts = self._catalog.current.accounts.values()
        return {account.provider for account in accounts if account.accepts_client_keys}

    def _is_shared(self) -> bool:
        return self.store.shared and self.store.up

    def _idempotent(self, target: Target) -> Idempotency:
        self._repeats = Idempotency(self.store.values, self._settings.idempotency.ttl_s, target)
        return self._repeats

    def _cache(self, target: Target) -> Cache:
        return Cache(
            target,
            values=self.store.values,
            flights=self._flights,
            tally=self.tally,
            ttl_s=self._settings.cache.ttl_s,
        )

    def _alerts_address(self) -> Address:
        return self._catalog.current.webhooks

    async def _spent(self, scope: Literal["key", "organization"], owner: str, start: datetime) -> int:
        """Sum up what the ledger knows, after what this process has written down has reached it."""
        await self._recording.shipper.flush(_FLUSH_LIMIT_S)
        return await self.admin.spent_nusd(scope, owner, start)

    def _counts_apart(self) -> bool:
        if isinstance(self.store, FallbackStore):
            return self.store.counts_apart
        return self._settings.workers > 1

    def _guess(self) -> None:
        self._guessed += 1

    async def _look_at_cache(self) -> None:
        """Count what is kept, from time to time: a shared store is not asked at each scrape."""
        while True:
            try:
                self.kept = await self.store.values.status()
            except StoreAwayError:
                self.kept = ValuesStatus()
            await anyio.sleep(_STATUS_EVERY_S)

    def _observe(self, told: Metrics) -> None:
        told.observe_from("llm_budget_used_ratio", self.budgets.highest)
        told.observe_from("llm_budget_alerts_total", lambda: dict(self.budgets.told))
        told.observe_from("llm_cache_entries", lambda: self.kept.entries)
        told.observe_from("llm_cache_size_bytes", lambda: self.kept.size_bytes)
        told.observe_from("llm_circuit_state", lambda: self.telling.states(self._catalog.current))
        told.observe_from("llm_circuit_openings_total", lambda: dict(self.telling.openings))
        told.observe_from("llm_redis_up", lambda: self.link is None or self.link.up)
        told.observe_from("llm_redis_failures_total", lambda: 0 if self.link is None else self.link.failures)
        told.observe_from("llm_limits_guessed_total", lambda: self._guessed)
        told.observe_from("llm_audit_entries_lost_total", lambda: self.trail.dropped)


def sensitivity_layers(settings: Settings, models: Callable[[], Catalog], note: Callable[[Deed], None]) -> list[Layer]:
    """Give the layer that looks at texts, if the settings want it."""
    wanted = settings.sensitivity
    if not wanted.enabled:
        return []
    scanner = Scanner(wanted.threshold, wanted.patterns, wanted.keywords)
    named = wanted.secure_only_models

    def layer(target: Target) -> SensitivityLayer:
        return SensitivityLayer(scanner, wanted.action, models=models, secure_only=named, note=note, target=target)

    return [layer]


def _unnoted(deed: Deed) -> None:
    """Nothing happened: a dry run leaves no trace in the audit log."""


def _overrides(settings: Settings) -> LimitValues:
    given = settings.limits
    return LimitValues(
        requests_per_minute=given.requests_per_minute,
        requests_per_hour=given.requests_per_hour,
        tokens_per_minute=given.tokens_per_minute,
        burst=given.burst,
        cooldown_seconds=given.cooldown_s,
    )
