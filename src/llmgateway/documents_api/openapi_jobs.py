"""What OpenAPI's document says of jobs: tags, paths and components, to be joined with the rest."""

from importlib.resources import files
from typing import Any

import msgspec


def described() -> dict[str, Any]:
    """Give `tags`, `paths` and `components`."""
    document: dict[str, Any] = msgspec.json.decode((files(__package__ or "") / "openapi_jobs.json").read_bytes())
    return document
