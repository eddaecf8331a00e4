"""How much a model takes at once, how its tokens are counted and what they cost: by the catalog as it is now."""

from collections.abc import Sequence

from msgspec import Struct

from llmgateway.catalog.building.listed import may_choose
from llmgateway.catalog.model import AUTO, Deployment, Model
from llmgateway.catalog.providers import lacks_key
from llmgateway.catalog.snapshot import Catalog
from llmgateway.documents.recipe import Count
from llmgateway.errors import DocumentError
from llmgateway.tokens.counter import TokenCounter

DEMO_MODEL = "demo/summary"
# Of a model of which nobody says how long its window is: nearly every one has this much.
_CONTEXT_TOKENS, _GENERATION_TOKENS = 8192, 2048
# The demo reads whatever it is given; this is what usual models take.
_DEMO_CONTEXT_TOKENS, _DEMO_GENERATION_TOKENS = 131_072, 8192
# Asked in place of `auto` where the catalog names no model but an account is there: one that suits documents, at each
# provider whose usual models are known.
_SUITABLE = (
    "openai/gpt-5.4",
    "anthropic/claude-sonnet-5-5",
    "gemini/gemini-2.5-pro",
    "mistral/mistral-medium-latest",
    "xai/grok-4.7",
    "deepseek/deepseek-v4-pro",
    "groq/openai/gpt-oss-120b",
    "cerebras/gpt-oss-120b",
    "together_ai/openai/gpt-oss-120b",
)


class Price(Struct, frozen=True):
    """US dollars for one token."""

    input_usd: float
    output_usd: float


class Window(Struct, frozen=True, kw_only=True):
    """What every deployment that may answer can do.

    Args:
        model: The name that is asked for.
        context_length: Tokens of prompt and answer together.
        max_generation: The longest answer, at most half of the window.
        estimated: Whether nobody says how long the window is.
        upstream_model, tokenizer: As `TokenCounter` takes them.
        cheapest, dearest: Of the deployments whose prices are known; `None` when none is.
    """

    model: str
    context_length: int
    max_generation: int
    estimated: bool
    upstream_model: str
    tokenizer: str | None
    cheapest: Price | None
    dearest: Price | None


def window_of(catalog: Catalog, name: str) -> Window:
    """Look up a model's window.

    Args:
        name: As a flavor has it; `auto` is the best that is configured, and the demo only where nothing is.

    Raises:
        DocumentError: There is no such model.
    """
    asked, models = _models(catalog, name)
    deployments = [deployment for model in models for deployment in model.deployments]
    length, longest, estimated = _size(deployments)
    first = deployments[0]
    prices = sorted(
        (Price(one.prices.input, one.prices.output) for one in deployments if one.prices is not None),
        key=lambda price: price.input_usd + price.output_usd,
    )
    return Window(
        model=asked,
        context_length=length,
        max_generation=max(1, min(longest, length // 2)),
        estimated=estimated,
        upstream_model=first.model,
        tokenizer=first.tokenizer,
        cheapest=prices[0] if prices else None,
        dearest=prices[-1] if prices else None,
    )


def counting(counter: TokenCounter, upstream_model: str, tokenizer: str | None) -> Count:
    """Give what counts the tokens of texts for a model: for the counter's threads, not for an event loop."""

    def count(texts: Sequence[str]) -> list[int]:
        return [counter.counted([text], upstream_model, tokenizer).tokens for text in texts]

    return count


def _models(catalog: Catalog, name: str) -> tuple[str, list[Model]]:
    """Give the name that is to be asked for, and the models that may answer then."""
    if name == AUTO:
        return _auto(catalog)
    model = catalog.resolve(name)
    if model is None:
        near = ", ".join(f"`{other}`" for other in catalog.nearest(name, 3))
        raise DocumentError(
            f"The flavor names the model `{name[:200]}`, which is not on offer here; the nearest are {near}. "
            "Change its `model` with PATCH /api/v1/flavors/{id}, or add the model to the catalog.",
            code="model_not_found",
            details={"model": name[:200]},
        )
    return name, [model]


def _auto(catalog: Catalog) -> tuple[str, list[Model]]:
    if (auto := catalog.auto) is not None:
        names = (*(catalog.models if auto.models is None else auto.models), *auto.tasks.values())
        found = [model for one in dict.fromkeys(names) if (model := catalog.resolve(one)) is not None]
        if models := may_choose(found):
            return AUTO, models
    for name in _SUITABLE:
        model = catalog.resolve(name)
        if model is not None and not lacks_key(model.deployments[0].account):
            return name, [model]
    return DEMO_MODEL, [catalog.models[DEMO_MODEL]]


def _size(deployments: Sequence[Deployment]) -> tuple[int, int, bool]:
    """Give the smallest window, the shortest longest answer, and whether any of the windows was guessed."""
    sizes = [_size_of(one) for one in deployments]
    return min(size for size, _, _ in sizes), min(most for _, most, _ in sizes), any(guess for _, _, guess in sizes)


def _size_of(one: Deployment) -> tuple[int, int, bool]:
    if one.account.wire == "demo":
        return one.context_length or _DEMO_CONTEXT_TOKENS, one.max_output_tokens or _DEMO_GENERATION_TOKENS, False
    if one.context_length is None:
        return _CONTEXT_TOKENS, one.max_output_tokens or _GENERATION_TOKENS, True
    # Nobody says how long its answers may be: what is left beside a full prompt is never more than half.
    return one.context_length, one.max_output_tokens or max(_GENERATION_TOKENS, one.context_length // 4), False
