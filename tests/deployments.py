"""Deployments as tests need them: an account and a model, and what a test says besides."""

from typing import Any

from llmgateway.catalog.model import Account, Deployment


def deployment(account: str = "main", model: str = "gpt-4o", **fields: Any) -> Deployment:
    """Make a deployment at an account of OpenAI's wire.

    Args:
        fields: Of the deployment, such as `prices`, or of its account, such as `provider` and `api_base`.
    """
    own = {name: fields.pop(name) for name in list(fields) if name in Deployment.__dataclass_fields__}
    return Deployment(Account(**{"name": account, "provider": "openai", "wire": "openai", **fields}), model, **own)
