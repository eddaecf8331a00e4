from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from typing import Any, Protocol

import pytest

from tests.e2e.providers.played import PLAYED
from tests.running import Running
from tests.upstreams.server import Player


class Play(Protocol):
    """Serve one provider's models: the gateway, and the provider behind it."""

    async def __call__(
        self,
        provider: str,
        *,
        key: str | None = None,
        apart: int = 0,
        model: dict[str, Any] | None = None,
        strict: Collection[str] | None = None,
        **settings: object,
    ) -> tuple[Running, Player]: ...


@pytest.fixture
async def play(gateway: Callable[..., Awaitable[Running]]) -> AsyncIterator[Play]:
    async with AsyncExitStack() as stack:

        async def serve(
            provider: str,
            *,
            key: str | None = None,
            apart: int = 0,
            model: dict[str, Any] | None = None,
            strict: Collection[str] | None = None,
            **settings: object,
        ) -> tuple[Running, Player]:
            played = PLAYED[provider]
            player = await stack.enter_async_context(Player(played.wire, strict=strict))
            return await gateway(played.catalog(player, key=key, apart=apart, **model or {}), **settings), player

        yield serve
