"""What OpenAPI's document says of jobs as they go: server-sent events, and the WebSockets for which it has no paths."""

from importlib.resources import files
from typing import Any

import msgspec


def described() -> dict[str, Any]:
    """Give `tags`, `paths`, `components`, and `x-websockets` by their paths."""
    document: dict[str, Any] = msgspec.json.decode((files(__package__ or "") / "openapi_live.json").read_bytes())
    return document
