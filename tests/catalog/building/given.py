"""Catalogs of a few lines, for the tests of how they are made."""

from collections.abc import Sequence
from typing import Any

import yaml

from llmgateway.catalog.load import load
from llmgateway.catalog.snapshot import Catalog

ACCOUNTS = {
    "main": {"provider": "openai", "api_key": "${KEY:-k}"},
    "other": {"provider": "groq", "api_key": "${KEY:-k}"},
    "house": {"provider": "hosted_vllm", "api_base": "http://localhost:8001/v1"},
}


def model(name: str, *names: str, provider: str = "house", **more: Any) -> dict[str, object]:
    """Give a model's entry, with a deployment for each name (else one, called as the model)."""
    return {"name": name, "deployments": [{"provider": provider, "model": one} for one in names or (name,)], **more}


def text_of(models: Sequence[object], **sections: object) -> str:
    """Write a catalog down."""
    return yaml.safe_dump({"providers": ACCOUNTS, "models": list(models), **sections}, sort_keys=False)


def catalog_of(*models: object, **sections: object) -> Catalog:
    """Load one."""
    return load(text_of(models, **sections), {})
