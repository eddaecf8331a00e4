"""What OpenAPI's document says of providers, models and tokenizers here, to be joined with the rest."""

from typing import Any

from llmgateway.documents_api.asked import Body
from llmgateway.documents_api.catalog import fields
from llmgateway.documents_api.catalog.tokenizers import TokenCounting, TokenizerChoice
from llmgateway.documents_api.shelves.describing import (
    FLAG,
    JSON,
    MOMENT,
    NUMBER,
    OBJECT,
    TEXT,
    WHOLE,
    Operation,
    bodies,
    operation,
    or_null,
    pages_of,
    ref,
    shape,
)
from llmgateway.documents_api.shelves.meanings import MEANINGS

_TAG = "Providers"
_WRITING = "Needs the admin key. Live in every replica within two seconds."


class NoFields(Body):
    """Nothing is sent."""


def described() -> dict[str, Any]:
    """Give `tags`, `paths` and `components`."""
    paths: dict[str, JSON] = {}
    for path, method, given in _operations():
        paths.setdefault(path, {})[method] = operation(path, given)
    kinds = [given.body[0] for _, _, given in _operations() if given.body is not None]
    lists = {f"{name}List": pages_of(name) for name in ("RegisteredProvider", "RegisteredModel", "Tokenizer")}
    tag = {"name": _TAG, "description": "Providers, models and tokenizers, as document services name them."}
    schemas = {**bodies(kinds, MEANINGS), **_rows(), **_findings(), **lists}
    return {"tags": [tag], "paths": paths, "components": {"schemas": schemas}}


def _of(name: str, summary: str, answer: str, **more: Any) -> Operation:
    return Operation(id=name, tag=_TAG, summary=summary, answer=answer, **more)


def _operations() -> list[tuple[str, str, Operation]]:
    provider: JSON = {"name": "house", "provider_type": "openai", "api_key": "sk-…", "security_level": "high"}
    model: JSON = {"provider_id": "house", "model_name": "fast", "model_identifier": "gpt-4o-mini"}
    new_provider, new_model = (fields.NewProviderFields, provider), (fields.NewModelFields, model)
    providers, models, tokenizers = "/api/v1/providers", "/api/v1/models", "/api/v1/tokenizers"
    one_provider, one_model = f"{providers}/{{id}}", f"{models}/{{id}}"
    making = {"status": 201, "description": _WRITING}
    level = {"description": _WRITING, "body": (fields.ProviderFields, {"security_level": "low"})}
    length = {"description": _WRITING, "body": (fields.ModelFields, {"context_length": 32_768})}
    count, load = (
        (TokenCounting, {"text": "Hello world", "model": "gpt-4o"}),
        (TokenizerChoice, {"tokenizer": "o200k_base"}),
    )
    named = {"provider_id": "Only this provider's."}
    asking = {"description": "One question to the provider. Needs the admin key.", "body": (NoFields, {}), "asks": True}
    return [
        (providers, "get", _of("listRegisteredProviders", "List", "RegisteredProviderList", is_list=True)),
        (providers, "post", _of("registerProvider", "Make one", "RegisteredProvider", body=new_provider, **making)),
        (one_provider, "get", _of("readRegisteredProvider", "Read one", "RegisteredProvider")),
        (one_provider, "patch", _of("changeRegisteredProvider", "Change one", "RegisteredProvider", **level)),
        (one_provider, "delete", _of("removeRegisteredProvider", "Remove one", "Deleted", description=_WRITING)),
        (models, "get", _of("listRegisteredModels", "List", "RegisteredModelList", is_list=True, query=named)),
        (models, "post", _of("registerModel", "Make one", "RegisteredModel", body=new_model, **making)),
        (one_model, "get", _of("readRegisteredModel", "Read one", "RegisteredModel")),
        (one_model, "patch", _of("changeRegisteredModel", "Change one", "RegisteredModel", **length)),
        (one_model, "delete", _of("removeRegisteredModel", "Remove one", "Deleted", description=_WRITING)),
        (f"{one_model}/limits", "get", _of("readModelLimits", "How much it takes", "ModelLimits")),
        (
            f"{one_provider}/discover-models",
            "post",
            _of("discoverModels", "Ask it for its models", "Discovery", **asking),
        ),
        (f"{one_model}/verify", "post", _of("verifyModel", "Ask whether it is there", "Verification", **asking)),
        (tokenizers, "get", _of("listTokenizers", "List tokenizers", "TokenizerList", is_list=True)),
        (f"{tokenizers}/count", "post", _of("countTokens", "Count tokens, offline", "TokenCount", body=count)),
        (f"{tokenizers}/preload", "post", _of("preloadTokenizer", "Load one early", "LoadedTokenizer", body=load)),
    ]


def _rows() -> dict[str, JSON]:
    """Describe what is kept."""
    times: dict[str, JSON] = {"created_at": MOMENT, "updated_at": MOMENT}
    prices = shape(
        {"input": NUMBER, "output": NUMBER, "cached": or_null(NUMBER), "reasoning": or_null(NUMBER)}, MEANINGS
    )
    limits: dict[str, JSON] = {
        "context_length": WHOLE,
        "max_generation_length": WHOLE,
        "prices": or_null(prices),
        "limits_source": TEXT,
        "max_generation_source": TEXT,
        "prices_source": or_null(TEXT),
    }
    named: dict[str, JSON] = dict.fromkeys(("id", "provider_id", "model_name", "model_identifier"), TEXT)
    state: dict[str, JSON] = {"security_level": TEXT, "is_active": FLAG, "health_status": TEXT}
    return {
        "RegisteredProvider": shape(
            {
                **dict.fromkeys(("id", "name", "provider_type"), TEXT),
                "api_base_url": or_null(TEXT),
                "api_key_exists": FLAG,
                "security_level": TEXT,
                "metadata": OBJECT,
                **times,
            },
            MEANINGS,
        ),
        "RegisteredModel": shape({**named, "tokenizer": or_null(TEXT), **limits, **state, **times}, MEANINGS),
        "ModelLimits": shape({"model_id": TEXT, "model_name": TEXT, **limits}, MEANINGS),
    }


def _findings() -> dict[str, JSON]:
    """Describe what is counted, and what a provider says."""
    return {
        "Tokenizer": shape(
            {"name": TEXT, "type": TEXT, "models": {"type": "array", "items": TEXT}, "loaded": FLAG}, MEANINGS
        ),
        "TokenCount": shape(
            {
                "tokens": WHOLE,
                "counts": or_null({"type": "array", "items": WHOLE}),
                "characters": WHOLE,
                "model": or_null(TEXT),
                "tokenizer": TEXT,
                "exact": FLAG,
            },
            {name: meaning for name, meaning in MEANINGS.items() if name != "model"},
        ),
        "Discovery": shape(
            {"provider_id": TEXT, "items": {"type": "array", "items": ref("DiscoveredModel")}, "total": WHOLE}, MEANINGS
        ),
        "DiscoveredModel": shape(
            {
                "model_identifier": TEXT,
                "is_registered": FLAG,
                **dict.fromkeys(("context_length", "max_generation_length"), or_null(WHOLE)),
            },
            MEANINGS,
        ),
        "Verification": shape(
            {
                **dict.fromkeys(("model_id", "provider_id", "model_identifier"), TEXT),
                "is_listed": FLAG,
                "verified_at": MOMENT,
            },
            MEANINGS,
        ),
        "LoadedTokenizer": shape({"tokenizer": TEXT, "exact": FLAG, "loaded": FLAG}, MEANINGS),
    }
