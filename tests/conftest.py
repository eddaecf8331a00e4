import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import alembic.command  # noqa: F401  so that no gateway of a test starts a process to migrate: half a second each
import hypothesis
import pytest
import uvicorn

from tests.running import Running, running
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player

Serve = Callable[..., Awaitable[Running]]


class _Hurried:
    """What uvicorn knows as asyncio: it waits for a tenth of a second here and there, and tests end thousands of it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s / 20)


@pytest.fixture(scope="session", autouse=True)
def _uvicorn_hurries() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn.server, "asyncio", _Hurried())
        yield


def pytest_configure() -> None:
    """Let no example fail because the machine was busy: what may take how long is told as a ratio, and elsewhere."""
    hypothesis.settings.register_profile("patient", deadline=None)
    hypothesis.settings.load_profile("patient")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where processes share the tests, begin with files that may take long: at the end none has a long one left."""
    if not hasattr(config, "workerinput"):
        return
    longest_s: dict[Path, float] = {}
    for item in items:
        limit = item.get_closest_marker("timeout")
        longest_s[item.path] = max(longest_s.get(item.path, 0.0), 30.0 if limit is None else limit.args[0])
    items.sort(key=lambda item: -longest_s[item.path])


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Keep the garbage collector from walking over thousands of tests that live as long as the run."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _only_its_own_objects(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is measured does not pay for the objects of all tests before, as a gateway that serves does not either."""
    if request.node.get_closest_marker("alone") is None:
        yield
        return
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Serve]:
    """Serve a catalog: `await gateway(yaml, environ=…, request_timeout_s=…)`."""
    async with AsyncExitStack() as stack:

        async def serve(
            catalog: str | None = None, *, environ: Mapping[str, str] | None = None, **settings: object
        ) -> Running:
            return await stack.enter_async_context(running(tmp_path, catalog, environ=environ, **settings))

        yield serve


@pytest.fixture
async def provider() -> AsyncIterator[Player]:
    """A provider that speaks OpenAI's wire."""
    async with Player(OpenAIWire()) as player:
        yield player


@pytest.fixture
def catalog(provider: Player) -> str:
    """One model, `chat`, at that provider."""
    return f"""
        providers:
          main: {{provider: openai, api_key: "${{KEY:-sk-upstream}}", api_base: "{provider.base}"}}
        models:
          - {{name: chat, deployments: [{{provider: main, model: gpt-4o}}]}}
          - {{name: embed, deployments: [{{provider: main, model: text-embedding-3-small}}]}}
    """
