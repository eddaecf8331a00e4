"""What could have cost less: the same tokens at other deployments of equal capability. An estimate, and it says so."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from llmgateway.catalog.model import Deployment, Prices
from llmgateway.catalog.providers import lacks_key
from llmgateway.catalog.snapshot import Catalog
from llmgateway.exchange import Usage
from llmgateway.routing.choosing.filters import LEVELS
from llmgateway.routing.cost import cost_usd
from llmgateway.storage.queries import Spent

MOST = 10
_MOST_EACH = 3  # for one deployment, so that there is room for others
_LEAST_SHARE = 0.01
_LEAST_USD = 1e-6
# No call fails without these: what a cache saves is in the prices, and tools can be called one after another.
_DISPENSABLE = frozenset({"prompt_caching", "parallel_tools"})
_SAME_NAME = "It answers for this model already: put it first, give it more weight, or choose the strategy cheapest."
_OTHER_NAME = "Ask for it by this name, or put its deployment into this model's."
_NO_NAME = "No client can name it here: put it into this model's deployments, or give it a name of its own."
_ESTIMATE = "The tokens as they were counted at today's prices: another model counts, and caches, otherwise."

MayUse = Callable[[str], bool]


class Recommendation(Struct):
    """What requests of one model at one deployment cost, and what they would have cost at another.

    Args:
        model, alternative_model: As clients ask for it; equal where another deployment of the same name is meant.
        provider, alternative_provider: The accounts' names in the catalog.
        saving_share: Of what they cost, 0 to 1.
    """

    model: str
    upstream_model: str
    provider: str
    requests: int
    current_cost_usd: float
    alternative_model: str
    alternative_upstream_model: str
    alternative_provider: str
    alternative_cost_usd: float
    saving_usd: float
    saving_share: float
    note: str
    estimated: bool = True


def recommend(spent: Iterable[Spent], catalog: Catalog, may_use: MayUse) -> list[Recommendation]:
    """Give the best savings, best first.

    Args:
        spent: In parts, each of prompts that are about as long.
        may_use: Whether whoever asks may use the model of a name: no other is recommended.
    """
    used = defaultdict[tuple[str, str, str], list[Spent]](list)
    for part in spent:
        used[part.model, part.provider, part.upstream_model].append(part)
    offers = _Offers(catalog, may_use)
    found = [one for parts in used.values() for one in _best(parts, offers)]
    return sorted(found, key=_saving)[:MOST]


def _saving(one: Recommendation) -> tuple[float, str, str, str]:
    return -one.saving_usd, one.model, one.provider, one.alternative_provider


def _best(parts: Sequence[Spent], offers: "_Offers") -> list[Recommendation]:
    first = parts[0]
    deployment = offers.used(first)
    if deployment is None:
        return []  # it left the catalog: nobody knows what it was able to do
    found = list[Recommendation]()
    for name, other in offers.beside(first.model, deployment):
        if _place(other) != _place(deployment) and _is_equal(deployment, other, parts):
            what_to_do = _SAME_NAME if name == first.model else offers.how_to_ask(name)
            one = _compared(parts, deployment, name, other, f"{what_to_do} {_ESTIMATE}")
            if one is not None:
                found.append(one)
    return sorted(found, key=_saving)[:_MOST_EACH]


def _compared(
    parts: Sequence[Spent], used: Deployment, name: str, other: Deployment, note: str
) -> Recommendation | None:
    """Compare the two; `None` when there is next to nothing to save."""
    current = sum(part.cost_usd for part in parts)
    alternative = _cost_usd(parts, other)
    # Prices may have fallen since: then it is not the other deployment that costs less.
    today = current if used.prices is None else _cost_usd(parts, used)
    saving = current - alternative
    if min(saving, today - alternative) < max(_LEAST_USD, current * _LEAST_SHARE):
        return None
    first = parts[0]
    return Recommendation(
        model=first.model,
        upstream_model=first.upstream_model,
        provider=first.provider,
        requests=sum(part.requests for part in parts),
        current_cost_usd=round(current, 9),
        alternative_model=name,
        alternative_upstream_model=other.model,
        alternative_provider=other.account.name,
        alternative_cost_usd=round(alternative, 9),
        saving_usd=round(saving, 9),
        saving_share=round(saving / current, 6),
        note=note,
    )


def _is_equal(used: Deployment, other: Deployment, parts: Sequence[Spent]) -> bool:
    """Whether another deployment is known to be able to do what this one did, and is trusted as much."""
    longest_prompt = max(part.longest_prompt_tokens for part in parts)
    longest_answer = max(part.longest_answer_tokens for part in parts)
    return (
        other.prices is not None
        and other.account.wire != "demo"
        and not lacks_key(other.account)
        and used.capabilities - _DISPENSABLE <= other.capabilities
        and LEVELS[used.account.security_level] <= LEVELS[other.account.security_level]
        and _is_enough(other.context_length, used.context_length, longest_prompt)
        and _is_enough(other.max_output_tokens, used.max_output_tokens, longest_answer)
    )


def _is_enough(tokens: int | None, used: int | None, longest: int) -> bool:
    """Whether a model takes or gives so many tokens; of two unknown ones, whoever put them together knows."""
    return used is None if tokens is None else tokens >= longest


def _cost_usd(parts: Iterable[Spent], deployment: Deployment) -> float:
    prices = deployment.prices
    return 0.0 if prices is None else sum(_part_usd(part, prices) for part in parts)


def _part_usd(part: Spent, prices: Prices) -> float:
    # All prompts of a part are between the same two lengths at which prices change, and so is their mean; the sum of
    # them, by which `cost_usd` would go, is not.
    prices = replace(prices.for_request(part.prompt_tokens // part.requests, None), above=(), tiers=())
    usage = Usage(
        prompt_tokens=part.prompt_tokens,
        completion_tokens=part.completion_tokens,
        cached_tokens=part.cached_tokens,
        reasoning_tokens=part.reasoning_tokens,
        cache_write_tokens=part.cache_write_tokens,
    )
    # The ledger does not say which side sounds and images were on: the dearer one, so that no saving is made up.
    sounds = part.audio_tokens * _extra(prices, prices.audio_input, prices.audio_output)
    images = part.image_tokens * _extra(prices, prices.image_input, prices.image_output)
    return (cost_usd(usage, prices) or 0.0) + sounds + images


def _extra(prices: Prices, of_input: float | None, of_output: float | None) -> float:
    on_input = 0.0 if of_input is None else of_input - prices.input
    on_output = 0.0 if of_output is None else of_output - prices.output
    return max(0.0, on_input, on_output)


def _place(deployment: Deployment) -> tuple[str, str]:
    return deployment.account.name, deployment.model


class _Offers:
    """The catalog's deployments, by account and by provider, and the names to ask for them."""

    def __init__(self, catalog: Catalog, may_use: MayUse) -> None:
        self._catalog = catalog
        self._may_use = may_use
        self._at_account = dict[tuple[str, str], Deployment]()
        self._at_provider = defaultdict[str, list[tuple[int, str, Deployment]]](list)
        for name, model in catalog.models.items():
            for place, one in enumerate(model.deployments):
                self._at_account.setdefault(_place(one), one)
                self._at_provider[f"{one.account.provider}/{one.model}"].append((place, name, one))

    def used(self, spent: Spent) -> Deployment | None:
        """Find a deployment that was asked: under this model's name, under another, or by its own."""
        asked = (spent.provider, spent.upstream_model)
        own = next((one for one in self._of(spent.model) if _place(one) == asked), None)
        if own is not None:
            return own
        derived = (one for one in self._of("/".join(asked)) if _place(one) == asked)
        return self._at_account.get(asked) or next(derived, None)

    def beside(self, name: str, deployment: Deployment) -> Iterator[tuple[str, Deployment]]:
        """Give the others that may stand in for a deployment, each once, with the name to ask for."""
        seen = set[tuple[str, str]]()
        for its_name, other in self._all_beside(name, deployment):
            if _place(other) not in seen and self._may_use(its_name):
                seen.add(_place(other))
                yield its_name, other

    def how_to_ask(self, name: str) -> str:
        """Say how calls get to a model of another name."""
        return _NO_NAME if self._catalog.resolve(name) is None else _OTHER_NAME

    def _all_beside(self, name: str, deployment: Deployment) -> Iterator[tuple[str, Deployment]]:
        if name in self._catalog.models:
            yield from ((name, other) for other in self._of(name))
        for equivalent in self._catalog.equivalents(deployment):
            # Names whose first choice it is, before names that ask it only now and then.
            named = sorted(self._at_provider.get(equivalent, ()), key=lambda one: one[:2])
            yield from ((its_name, other) for _, its_name, other in named)
            yield from ((equivalent, other) for other in self._of(equivalent))

    def _of(self, name: str) -> tuple[Deployment, ...]:
        model = self._catalog.reach(name)
        return () if model is None else model.deployments
