from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.documents_api.library import Library, opened


@pytest.fixture
async def library(tmp_path: Path) -> AsyncIterator[Library]:
    async with opened(tmp_path) as library:
        yield library
