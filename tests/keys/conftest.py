from collections.abc import Iterator

import pytest

from tests.middleware.conftest import Log


@pytest.fixture
def log() -> Iterator[Log]:
    made = Log()
    yield made
    made.sink.close()
