"""The gateway's log, for tests that read it."""

import io
import json
from typing import Any

from structlog.typing import FilteringBoundLogger

from llmgateway.telemetry.logs import LineSink, build_logger


class Lines:
    """A logger and what it wrote."""

    def __init__(self) -> None:
        self._stream = io.BytesIO()
        self._sink = LineSink(self._stream)
        self.logger: FilteringBoundLogger = build_logger(self._sink, level="debug", log_format="json")

    def text(self) -> str:
        self._sink.flush()
        return self._stream.getvalue().decode()

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]

    def events(self) -> list[str]:
        return [line["event"] for line in self.all()]

    def close(self) -> None:
        self._sink.close()
