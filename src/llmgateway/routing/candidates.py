"""Who may answer a call at all: filters, before anything is weighed."""

from dataclasses import replace

from llmgateway.caller import Caller
from llmgateway.catalog.model import Deployment, Model, SecurityLevel
from llmgateway.errors import PermissionDeniedError
from llmgateway.exchange import Exchange

_LEVELS: dict[SecurityLevel, int] = {"low": 0, "medium": 1, "high": 2}


def candidates(exchange: Exchange, model: Model) -> tuple[Deployment, ...]:
    """Give the deployments that may see this call, best first, and note them in the exchange.

    Raises:
        PermissionDeniedError: None may; the message names the filter that left nothing.
    """
    if exchange.candidates:
        return exchange.candidates
    found = model.deployments
    if exchange.min_security is not None:
        found = trusted(found, exchange.min_security)
        if not found:
            raise PermissionDeniedError(
                f"This text is sensitive, and no provider of `{model.name[:200]}` may see it. "
                "Ask for a model whose provider has the security level high.",
                param="model",
                code="sensitive_content",
            )
    if exchange.caller.provider_key is not None:
        found = _own(found, exchange.caller, model)
    exchange.candidates = found
    return found


def trusted(deployments: tuple[Deployment, ...], level: SecurityLevel) -> tuple[Deployment, ...]:
    """Give those whose provider is trusted with so much."""
    least = _LEVELS[level]
    return tuple(one for one in deployments if _LEVELS[one.account.security_level] >= least)


def _own(deployments: tuple[Deployment, ...], caller: Caller, model: Model) -> tuple[Deployment, ...]:
    """Give those of the provider whose key the caller came with, each to be asked with that key and no other."""
    found = tuple(
        replace(one, account=replace(one.account, api_key=caller.provider_key))
        for one in deployments
        if one.account.provider == caller.provider and one.account.accepts_client_keys
    )
    if not found:
        raise PermissionDeniedError(
            f"A key of {caller.provider} was sent, and `{model.name[:200]}` is not answered with such keys here.",
            param="model",
            code="model_not_allowed",
        )
    return found
