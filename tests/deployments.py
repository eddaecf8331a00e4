"""Deployments as tests need them: an account and a model, and what a test says besides; and candidates of them."""

from collections.abc import Sequence
from typing import Any

from llmgateway.catalog.model import Account, Deployment
from llmgateway.routing.choosing.candidate import Candidate
from llmgateway.routing.health.book import HealthBook


def deployment(account: str = "main", model: str = "gpt-4o", **fields: Any) -> Deployment:
    """Make a deployment at an account of OpenAI's wire.

    Args:
        fields: Of the deployment, such as `prices`, or of its account, such as `provider` and `api_base`.
    """
    own = {name: fields.pop(name) for name in list(fields) if name in Deployment.__dataclass_fields__}
    return Deployment(Account(**{"name": account, "provider": "openai", "wire": "openai", **fields}), model, **own)


def candidates_of(deployments: Sequence[Deployment]) -> list[Candidate]:
    """Make candidates of deployments, all well."""
    book = HealthBook()
    return [Candidate(one, book.of(one), place) for place, one in enumerate(deployments)]


def candidate(**fields: Any) -> Candidate:
    """Make a candidate of a deployment with these fields."""
    return candidates_of([deployment(**fields)])[0]


def names(among: Sequence[Candidate]) -> list[str]:
    """Give their accounts' names."""
    return [one.deployment.account.name for one in among]
