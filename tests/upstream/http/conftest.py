from collections.abc import AsyncIterator

import pytest

from llmgateway.upstream.http.pool import Pool
from tests.upstream.http.speaking import new_pool


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    pool = new_pool()
    yield pool
    await pool.close()
