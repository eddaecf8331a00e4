import base64
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.conftest import Serve
from tests.e2e.services.scribe import Scribe
from tests.running import Running, opened
from tests.services import postgres_server, redis_server
from tests.upstreams.server import Player


@pytest.fixture
def gateway(gateway: Serve) -> Serve:
    """Serve a catalog, and wait for the database, without which there are no services."""

    async def serve(*given: Any, **settings: Any) -> Running:
        running = await gateway(*given, **settings)
        await opened(running.client)
        return running

    return serve


@pytest.fixture
def scribe() -> Scribe:
    """What the provider writes."""
    return Scribe()


@pytest.fixture
async def provider(scribe: Scribe) -> AsyncIterator[Player]:
    async with Player(scribe) as player:
        yield player


@pytest.fixture
def catalog(provider: Player) -> str:
    """Two models, `chat` and `other`, at that provider; four tokens cost a millionth of a dollar."""
    return f"""
        providers:
          main: {{provider: openai, api_key: sk-upstream, api_base: "{provider.base}"}}
        models:
          - name: chat
            deployments: [{{provider: main, model: gpt-4o}}]
          - name: other
            deployments: [{{provider: main, model: gpt-4o-mini}}]
    """


@pytest.fixture
def shared() -> Iterator[dict[str, str]]:
    """Settings of processes that share PostgreSQL and Redis."""
    with postgres_server() as database, redis_server() as redis:
        key = base64.urlsafe_b64encode(bytes(32)).decode()
        yield {"database_url": database.url, "redis_url": redis.url, "encryption_keys": key}
