import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.typing import FilteringBoundLogger

from llmgateway.telemetry.logs import LineSink, build_logger


class Log:
    """A logger and what it wrote."""

    def __init__(self) -> None:
        self._written = io.BytesIO()
        self.sink = LineSink(self._written)
        self.logger: FilteringBoundLogger = build_logger(self.sink, level="debug", log_format="json")

    def lines(self) -> list[dict[str, Any]]:
        self.sink.flush()
        return [json.loads(line) for line in self._written.getvalue().splitlines()]


@pytest.fixture
def log() -> Iterator[Log]:
    made = Log()
    yield made
    made.sink.close()
