from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.documents_api.front import Front, opened
from tests.lines import Lines


@pytest.fixture
def front_lines() -> Iterator[Lines]:
    lines = Lines()
    yield lines
    lines.close()


@pytest.fixture
async def front(tmp_path: Path, front_lines: Lines) -> AsyncIterator[Front]:
    async with opened(tmp_path, front_lines) as front:
        service = front.shop.service()
        front.shop.flavor(service)
        front.shop.flavor(service, "brief", is_default=False, processing_mode="single_pass", model="small")
        yield front
