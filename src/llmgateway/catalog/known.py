"""LiteLLM's table of models, read from its file without importing LiteLLM: windows, prices, capabilities."""

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from llmgateway.catalog.model import CALL_NEEDS, Prices
from llmgateway.catalog.prices import has_further, of_row

_FILE = "model_prices_and_context_window_backup.json"
_MODES = frozenset({"chat", "completion", "embedding"})
_ALIASES = {"cohere_chat": "cohere", "text-completion-openai": "openai", "bedrock_converse": "bedrock"}


class _Row(msgspec.Struct, gc=False):
    litellm_provider: str = ""
    mode: str | None = None
    max_input_tokens: float | str | None = None
    max_output_tokens: float | str | None = None
    max_tokens: float | str | None = None
    input_cost_per_token: float | str | None = None
    output_cost_per_token: float | str | None = None
    cache_read_input_token_cost: float | str | None = None
    cache_creation_input_token_cost: float | str | None = None
    cache_creation_input_token_cost_above_1hr: float | str | None = None
    output_cost_per_reasoning_token: float | str | None = None
    input_cost_per_audio_token: float | str | None = None
    output_cost_per_audio_token: float | str | None = None
    input_cost_per_image_token: float | str | None = None
    output_cost_per_image_token: float | str | None = None
    supports_vision: bool | None = None
    supports_audio_input: bool | None = None
    supports_audio_output: bool | None = None
    supports_pdf_input: bool | None = None
    supports_function_calling: bool | None = None
    supports_parallel_function_calling: bool | None = None
    supports_response_schema: bool | None = None
    supports_reasoning: bool | None = None
    supports_prompt_caching: bool | None = None
    supports_web_search: bool | None = None


_CAPABILITIES = {
    "supports_vision": "vision",
    "supports_audio_input": "audio",
    "supports_audio_output": "audio_output",
    "supports_pdf_input": "pdf",
    "supports_function_calling": "tools",
    "supports_parallel_function_calling": "parallel_tools",
    "supports_response_schema": "json_schema",
    "supports_reasoning": "reasoning",
    "supports_prompt_caching": "prompt_caching",
    "supports_web_search": "web_search",
}
CAPABILITIES = frozenset(_CAPABILITIES.values())


@dataclass(frozen=True, slots=True)
class Known:
    """What LiteLLM knows about one model; `None` where it does not say.

    Args:
        capabilities, lacks: What the table says that it has and has not; of the rest the table says nothing.
        priced: Its prices, or the row of the table that holds more than one a kind: few of them are ever asked for.
    """

    provider: str
    mode: Literal["chat", "completion", "embedding"]
    context_length: int | None
    max_output_tokens: int | None
    priced: Prices | bytes | None
    capabilities: frozenset[str]
    lacks: frozenset[str]

    @property
    def prices(self) -> Prices | None:
        """What it costs; `None` when the table does not say."""
        return of_row(self.priced, self.provider) if isinstance(self.priced, bytes) else self.priced


def known_models() -> Mapping[str, Known]:
    """Give the table by LiteLLM's model names, such as `gpt-4o` and `groq/llama-3.1-8b-instant`; read once.

    Raises:
        ModuleNotFoundError: LiteLLM is not installed.
    """
    return loaded()[0]


def fault() -> str | None:
    """Say what is wrong with the table: then no model has a price unless the catalog says so."""
    return loaded()[1]


@cache
def loaded() -> tuple[Mapping[str, Known], str | None]:
    """Give the table and what is wrong with it. Raises: ModuleNotFoundError."""
    spec = importlib.util.find_spec("litellm")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("litellm is not installed; install the package's requirements")
    return read(Path(spec.origin).parent / _FILE)


def read(path: Path) -> tuple[Mapping[str, Known], str | None]:
    """Read LiteLLM's file; an empty table, and what is wrong, when it cannot be."""
    try:
        table = decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
    else:
        if table:
            return table, None
        reason = "it holds no model"
    return {}, f"LiteLLM's table of prices cannot be read ({reason}): models have no price unless the catalog says one"


def decode(content: bytes) -> Mapping[str, Known]:
    """Read LiteLLM's JSON; what is odd about one row costs that row only."""
    raws = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    decoder = msgspec.json.Decoder(_Row)
    shared: dict[frozenset[str], frozenset[str]] = {}
    rows = ((name, raw, _decoded(decoder, raw)) for name, raw in raws.items())
    return {name: _known(row, raw, shared) for name, raw, row in rows if row is not None and row.mode in _MODES}


def find(provider: str, model: str) -> Known | None:
    """Look up a provider's model, under the provider's prefix or, when it is that provider's, without."""
    table = known_models()
    found = table.get(f"{provider}/{model}")
    if found is None:
        bare = table.get(model)
        found = bare if bare is not None and bare.provider == provider else None
    return found


def of_provider(provider: str) -> Iterator[tuple[str, Known]]:
    """Walk over a provider's models as (name without the provider's prefix, what is known)."""
    for name, known in known_models().items():
        if known.provider == provider:
            yield name.removeprefix(f"{provider}/"), known


def embeds(provider: str, model: str) -> bool:
    """Whether a model is known to answer with embeddings, and with nothing else."""
    found = find(provider, model)
    return found is not None and found.mode == "embedding"


def _decoded(decoder: "msgspec.json.Decoder[_Row]", raw: msgspec.Raw) -> _Row | None:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError:  # one odd row, such as the one that documents the format
        return None


def _known(row: _Row, raw: msgspec.Raw, shared: dict[frozenset[str], frozenset[str]]) -> Known:
    capabilities = {capability for field, capability in _CAPABILITIES.items() if getattr(row, field)}
    if row.mode != "embedding":
        capabilities.add("streaming")
    has = frozenset(capabilities)
    lacks = CALL_NEEDS.intersection(name for field, name in _CAPABILITIES.items() if getattr(row, field) is False)
    return Known(
        provider=provider_name(row.litellm_provider),
        mode=row.mode,  # type: ignore[arg-type]  # the caller kept only these modes
        context_length=_whole(row.max_input_tokens) or _whole(row.max_tokens),
        max_output_tokens=_whole(row.max_output_tokens),
        priced=_priced(row, raw),
        capabilities=shared.setdefault(has, has),
        lacks=shared.setdefault(lacks, lacks),
    )


def provider_name(litellm_provider: str) -> str:
    """Turn LiteLLM's finer names into the provider's: `vertex_ai-language-models` is `vertex_ai`."""
    if litellm_provider in _ALIASES:
        return _ALIASES[litellm_provider]
    return litellm_provider.split("-", 1)[0] if litellm_provider.startswith("vertex_ai-") else litellm_provider


def _whole(number: float | str | None) -> int | None:
    return int(number) if isinstance(number, int | float) and number > 0 else None


def _priced(row: _Row, raw: msgspec.Raw) -> Prices | bytes | None:
    content = bytes(raw)
    input_usd, output_usd = _usd(row.input_cost_per_token), _usd(row.output_cost_per_token)
    if has_further(content, has_input=input_usd is not None):
        return content
    if input_usd is None or (output_usd is None and row.mode != "embedding"):
        return None
    kinds = (
        row.cache_read_input_token_cost,
        row.cache_creation_input_token_cost,
        row.cache_creation_input_token_cost_above_1hr,
        row.output_cost_per_reasoning_token,
        row.input_cost_per_audio_token,
        row.output_cost_per_audio_token,
        row.input_cost_per_image_token,
        row.output_cost_per_image_token,
    )
    others: list[Any] = [_usd(price) for price in kinds]
    return Prices(input_usd, output_usd or 0.0, *others)


def _usd(price: float | str | None) -> float | None:
    return price if isinstance(price, float) else None
