from collections.abc import AsyncIterator
from typing import Any

import pytest

from llmgateway.upstream.litellm import LiteLLMUpstream
from llmgateway.upstream.litellm.library import load_litellm
from llmgateway.upstream.transport import Transport


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport(connect_timeout_s=2)
    yield transport
    await transport.close()


@pytest.fixture
async def upstream(transport: Transport) -> AsyncIterator[LiteLLMUpstream]:
    upstream = LiteLLMUpstream(transport)
    yield upstream
    await upstream.close()


@pytest.fixture(scope="session")
def litellm() -> Any:
    return load_litellm()
