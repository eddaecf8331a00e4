"""Models of about equal capability at several providers: where to go when a provider fails and nobody named another."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType

# Each line is a provider's: the first of it is asked, the older ones are only answered for. Best first.
_LARGEST = (
    ("anthropic", "claude-opus-5-5 claude-opus-5 claude-opus-4-8 claude-opus-4-7 claude-opus-4-6 claude-opus-4-5"),
    ("openai", "gpt-5.6 gpt-5.6-sol gpt-5.5"),
    ("gemini", "gemini-pro-latest gemini-3.1-pro-preview"),
)
_BALANCED = (
    ("openai", "gpt-5.4 gpt-5.6-terra gpt-5.2 gpt-5.1 gpt-5 gpt-4.1 gpt-4o o3"),
    ("anthropic", "claude-sonnet-5-5 claude-sonnet-5 claude-sonnet-4-6 claude-sonnet-4-5"),
    ("gemini", "gemini-2.5-pro"),
    ("xai", "grok-4.7 grok-4.5 grok-4.3 grok-4.20"),
    ("mistral", "mistral-medium-latest mistral-large-latest"),
    ("deepseek", "deepseek-v4-pro deepseek-chat"),
)
_SMALL = (
    ("openai", "gpt-5.4-mini gpt-5.6-luna gpt-5-mini gpt-4.1-mini gpt-4o-mini o4-mini"),
    ("anthropic", "claude-haiku-5-5 claude-haiku-4-5"),
    ("gemini", "gemini-3.5-flash-lite gemini-2.5-flash"),
    ("mistral", "mistral-small-latest"),
    ("deepseek", "deepseek-v4-flash deepseek-flash"),
    ("groq", "openai/gpt-oss-120b"),
    ("cerebras", "gpt-oss-120b"),
    ("together_ai", "openai/gpt-oss-120b"),
)
_SMALLEST = (
    ("openai", "gpt-5.4-nano gpt-5-nano gpt-4.1-nano"),
    ("gemini", "gemini-3.1-flash-lite gemini-2.5-flash-lite"),
    ("mistral", "ministral-8b-latest"),
    ("groq", "openai/gpt-oss-20b"),
    ("together_ai", "openai/gpt-oss-20b"),
)
# The same weights elsewhere are nearer than another model.
_OPEN = (
    (("groq", "openai/gpt-oss-120b"), ("cerebras", "gpt-oss-120b"), ("together_ai", "openai/gpt-oss-120b")),
    (("groq", "openai/gpt-oss-20b"), ("together_ai", "openai/gpt-oss-20b")),
)
_TABLE = (*_OPEN, _LARGEST, _BALANCED, _SMALL, _SMALLEST)

# A version of the same model: `-2024-08-06`, `-20250929`, `@20250929`, `-v1:0`.
_VERSION = re.compile(r"(?:-\d{4}-\d\d-\d\d|-\d{8}|@[a-z0-9-]+)?(?:-v\d+:\d+|-v1)?$")
# Who else sells a provider's models, by what their names there begin with or hold.
_RESOLD = (
    ("azure", "", "openai"),
    ("bedrock", "anthropic.", "anthropic"),
    ("vertex_ai", "claude-", "anthropic"),
    ("vertex_ai", "gemini-", "gemini"),
)

Table = Mapping[str, tuple[str, ...]]


def table_of(groups: Iterable[Iterable[str]]) -> Table:
    """Give the others of each name's groups, in their order.

    Args:
        groups: Of names such as `openai/gpt-4o`.
    """
    others: dict[str, dict[str, None]] = {}
    for group in map(tuple, groups):
        for name in group:
            others.setdefault(name, {}).update(dict.fromkeys(other for other in group if other != name))
    return MappingProxyType({name: tuple(found) for name, found in others.items()})


@cache
def shipped() -> Table:
    """Give the table that holds where the catalog has none of its own."""
    others: dict[str, dict[str, None]] = {}
    for tier in _TABLE:
        lines = [(provider, names.split()) for provider, names in tier]
        for provider, names in lines:
            asked = {f"{other}/{theirs[0]}": None for other, theirs in lines if other != provider}
            for name in names:
                others.setdefault(f"{provider}/{name}", {}).update(asked)
    return MappingProxyType({name: tuple(found) for name, found in others.items()})


def equivalents_in(table: Table, provider: str, model: str) -> tuple[str, ...]:
    """Give the names of a model's equivalents at other providers, best first.

    A dated version has those of its model, and what is sold elsewhere has those it has at home, and home itself first.
    """
    home = home_of(provider, model)
    for name in (f"{provider}/{model}", f"{provider}/{_VERSION.sub('', model)}", home):
        if name is not None and (found := table.get(name)) is not None:
            return tuple(other for other in (home, *found) if other and not other.startswith(f"{provider}/"))
    return ()


def home_of(provider: str, model: str) -> str | None:
    """Name a model where it comes from: Bedrock's `us.anthropic.claude-…` is `anthropic/claude-…`; `None` is here."""
    for seller, mark, home in _RESOLD:
        if seller == provider and mark in model:
            name = model.rpartition(mark)[2] if mark.endswith(".") else model
            return f"{home}/{_VERSION.sub('', name)}"
    return None
