"""Providers and models in the words of document services, and back in those of the catalog."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from llmgateway.catalog.building.tokenizers import name_fault
from llmgateway.catalog.model import Deployment, Prices, SecurityLevel
from llmgateway.catalog.rows import SEALED
from llmgateway.catalog.schema import AccountName, Address, Amount, Count, ModelName, Text
from llmgateway.documents_api.asked import Body
from llmgateway.documents_api.shown import moment
from llmgateway.storage.admin.rows import DeploymentRow, ProviderRow

_MILLION = 1_000_000
_LEVELS: tuple[SecurityLevel, ...] = ("low", "medium", "high")
_USUAL_LEVEL: SecurityLevel = "medium"
# What is planned with where nobody says how long a window is (`jobs/windows.py`).
_CONTEXT_TOKENS, _GENERATION_TOKENS = 8192, 2048
_KINDS = ("input", "output", "cached", "reasoning")

Source = Literal["given", "catalog", "discovered", "estimated"]


def _level(value: object) -> object:
    """Take a level's place in their order for its name."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(_LEVELS):
        return _LEVELS[value]
    return value


def _nothing(metadata: dict[str, Any]) -> dict[str, Any]:
    if metadata:
        raise ValueError("a provider keeps none here: leave it out")
    return metadata


def _tokenizer(name: str) -> str:
    if (fault := name_fault(name)) is not None:
        raise ValueError(fault)
    return name


Level = Annotated[SecurityLevel, BeforeValidator(_level)]


class ProviderFields(Body):
    """What may be said of a provider."""

    provider_type: Text = ""
    api_base_url: Address | None = None
    api_key: Text | None = Field(None, repr=False)
    security_level: Level | None = None
    metadata: Annotated[dict[str, Any], AfterValidator(_nothing)] | None = None


class NewProviderFields(ProviderFields):
    """A provider to be made."""

    name: Annotated[AccountName, Field(min_length=1, max_length=100)]
    provider_type: Text


class PricesFields(Body):
    """US dollars for ONE token; a kind that is left out costs what its side does."""

    input: Amount
    output: Amount
    cached: Amount | None = None
    reasoning: Amount | None = None


class ModelFields(Body):
    """What may be said of a model."""

    provider_id: Text = ""
    model_name: ModelName = ""
    model_identifier: Text = ""
    context_length: Count | None = None
    max_generation_length: Count | None = None
    tokenizer: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_tokenizer)] | None = None
    prices: PricesFields | None = None


class NewModelFields(ModelFields):
    """A model to be made."""

    provider_id: Text
    model_name: ModelName
    model_identifier: Text


PROVIDER_NAMES: Mapping[str, str] = {"provider_type": "provider", "api_base_url": "api_base"}
MODEL_NAMES: Mapping[str, str] = {
    "provider_id": "provider",
    "model_name": "name",
    "model_identifier": "model",
    "max_generation_length": "max_output_tokens",
    "prices": "prices_per_million",
}


def provider_told(body: ProviderFields) -> dict[str, Any]:
    """Give a body in the words of `/admin/providers`."""
    given = body.model_dump(exclude_unset=True, exclude={"metadata"})
    return {PROVIDER_NAMES.get(name, name): value for name, value in given.items()}


def model_told(body: ModelFields) -> dict[str, Any]:
    """Give a body in the words of `/admin/deployments`."""
    given = body.model_dump(exclude_unset=True)
    if given.get("prices") is not None:
        # In decimals: what is millionths in binary is not what was written.
        prices: dict[str, float] = {name: usd for name, usd in given["prices"].items() if usd is not None}
        given["prices"] = {name: float(Decimal(str(usd)) * _MILLION) for name, usd in prices.items()}
    return {MODEL_NAMES.get(name, name): value for name, value in given.items()}


def provider_shown(row: ProviderRow, *, may_administer: bool) -> dict[str, Any]:
    """Show a provider; its address is for administrators, its key for nobody."""
    fields = row.fields
    return {
        "id": row.name,
        "name": row.name,
        "provider_type": fields.get("provider"),
        "api_base_url": fields.get("api_base") if may_administer else None,
        "api_key_exists": "api_key" in fields.get(SEALED, ()),
        "security_level": fields.get("security_level", _USUAL_LEVEL),
        "metadata": {},
        "created_at": moment(row.created_at),
        "updated_at": moment(row.updated_at),
    }


def model_shown(row: DeploymentRow, served: Deployment | None, health: str) -> dict[str, Any]:
    """Show a model.

    Args:
        served: As the catalog has it now; `None` while it has it not, or not yet.
    """
    limits = limits_shown(row, served)
    return {
        "id": row.id,
        "provider_id": row.fields.get("provider"),
        "model_name": row.model,
        "model_identifier": row.fields.get("model"),
        "tokenizer": row.fields.get("tokenizer"),
        **limits,
        "security_level": _USUAL_LEVEL if served is None else served.account.security_level,
        "is_active": served is not None,
        "health_status": health,
        "created_at": moment(row.created_at),
        "updated_at": moment(row.updated_at),
    }


def limits_shown(row: DeploymentRow, served: Deployment | None) -> dict[str, Any]:
    """Show how much a model takes and what it costs, and where that is known from."""
    length: int | None = row.fields.get("context_length")
    longest: int | None = row.fields.get("max_output_tokens")
    prices = None
    if served is not None:
        length, longest, prices = served.context_length, served.max_output_tokens, served.prices
    return {
        "context_length": length or _CONTEXT_TOKENS,
        "max_generation_length": longest or _GENERATION_TOKENS,
        "prices": None if prices is None else _prices_shown(prices),
        "limits_source": _source("context_length" in row.fields, length),
        "max_generation_source": _source("max_output_tokens" in row.fields, longest),
        "prices_source": _source("prices_per_million" in row.fields, prices) if prices is not None else None,
    }


def _source(is_given: bool, value: object) -> Source:
    if is_given:
        return "given"
    return "estimated" if value is None else "catalog"


def _prices_shown(prices: Prices) -> dict[str, float | None]:
    return {kind: getattr(prices, kind) for kind in _KINDS}
