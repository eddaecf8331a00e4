from collections.abc import AsyncIterator

import pytest

from llmgateway.upstream.litellm import LiteLLMUpstream
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
