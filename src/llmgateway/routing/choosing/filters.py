"""Who may answer a call at all: filters, before anything is weighed; each drops those of whom it is certain.

What is only in doubt (a capability that nobody lists, an answer that may not fit) costs a deployment its place while
others are left of whom more is known; where there are none, it is asked.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from llmgateway.catalog.model import Deployment, SecurityLevel
from llmgateway.headers import usd
from llmgateway.routing.choosing.candidate import UNPRICED, Candidate
from llmgateway.routing.health.health import Cause

FilterName = Literal["provider_key", "security", "capability", "context_window", "max_cost", "circuit"]
Among = Sequence[Candidate]
Keep = Callable[[Among, "Wanted"], Among]
Reason = Callable[[Candidate, "Wanted"], str]

LEVELS: Mapping[SecurityLevel, int] = {"low": 0, "medium": 1, "high": 2}
STREAMING = frozenset({"streaming"})
# Whoever lets unknown parameters be dropped wants an answer without them rather than a refusal.
_DROPPABLE = frozenset({"reasoning"})


class Wanted(Struct, gc=False):
    """What a call asks of a deployment.

    Args:
        now: `time.perf_counter` seconds.
        needs: Capabilities; that it streams is said by `stream`.
        prompt_tokens, answer_tokens: About what the call will use, all answers together: what its cost is told from.
        fewest_prompt_tokens, most_prompt_tokens: Bounds of the prompt's length; the same where it was counted.
        max_answer_tokens: The longest answer that the client wants; `None` when it does not say.
        min_security: No provider below it may see the call.
        own_provider: LiteLLM's name of the provider whose key the caller came with.
        max_cost_usd: What the call may cost at most.
    """

    now: float
    needs: frozenset[str] = frozenset()
    stream: bool = False
    prompt_tokens: int = 0
    answer_tokens: int = 0
    fewest_prompt_tokens: int = 0
    most_prompt_tokens: int = 0
    max_answer_tokens: int | None = None
    min_security: SecurityLevel | None = None
    own_provider: str | None = None
    max_cost_usd: float | None = None


def trusted(deployments: tuple[Deployment, ...], level: SecurityLevel) -> tuple[Deployment, ...]:
    """Give those whose provider is trusted with so much."""
    least = LEVELS[level]
    return tuple(one for one in deployments if LEVELS[one.account.security_level] >= least)


def lacking(candidate: Candidate) -> frozenset[str]:
    """Give what a deployment certainly cannot do."""
    deployment = candidate.deployment
    return deployment.lacks - _DROPPABLE if deployment.drop_unsupported else deployment.lacks


def _same_provider(among: Among, wanted: Wanted) -> Among:
    provider = wanted.own_provider
    if provider is None:
        return among
    accounts = ((one, one.deployment.account) for one in among)
    return [one for one, account in accounts if account.provider == provider and account.accepts_client_keys]


def _why_other_provider(candidate: Candidate, wanted: Wanted) -> str:
    if candidate.deployment.account.provider != wanted.own_provider:
        return f"is not at {wanted.own_provider}, whose key came with the call"
    return "takes no keys of clients"


def _secure(among: Among, wanted: Wanted) -> Among:
    if wanted.min_security is None:
        return among
    least = LEVELS[wanted.min_security]
    return [one for one in among if LEVELS[one.deployment.account.security_level] >= least]


def _why_insecure(candidate: Candidate, wanted: Wanted) -> str:
    level = candidate.deployment.account.security_level
    return f"its provider has the security level {level}, and this text needs {wanted.min_security}"


def _able(among: Among, wanted: Wanted) -> Among:
    needs = wanted.needs | STREAMING if wanted.stream else wanted.needs
    if not needs:
        return among
    able = [one for one in among if needs.isdisjoint(lacking(one))]
    # Nearly all models stream, also those of which nothing is known.
    certain = wanted.needs - STREAMING
    return [one for one in able if certain <= one.deployment.capabilities] or able


def _why_unable(candidate: Candidate, wanted: Wanted) -> str:
    needs = wanted.needs | STREAMING if wanted.stream else wanted.needs
    if missing := needs & lacking(candidate):
        return f"cannot do {_listed(missing)}"
    unknown = wanted.needs - STREAMING - candidate.deployment.capabilities
    return f"is not known to do {_listed(unknown)}, and others are"


def _listed(capabilities: frozenset[str]) -> str:
    return ", ".join(sorted(capabilities))


def _roomy(among: Among, wanted: Wanted) -> Among:
    fewest, answer = wanted.fewest_prompt_tokens, wanted.max_answer_tokens
    roomy, ample, has_ample = [], [], False
    for one in among:
        deployment = one.deployment
        window = deployment.context_length
        if window is None:
            roomy.append(one)
            ample.append(one)
        elif window >= fewest:
            roomy.append(one)
            if answer is None or fewest + _clipped(answer, deployment.max_output_tokens) <= window:
                ample.append(one)
                has_ample = True
    # Some windows are for the prompt alone, so who has room for no more than that may still do.
    return ample if has_ample else roomy


def _clipped(answer_tokens: int, most: int | None) -> int:
    return answer_tokens if most is None or answer_tokens < most else most


def _why_too_small(candidate: Candidate, wanted: Wanted) -> str:
    window, prompt = candidate.deployment.context_length, wanted.fewest_prompt_tokens
    if window is not None and window < prompt:
        return f"its context window has {window} tokens, and the prompt {prompt}"
    answer = _clipped(wanted.max_answer_tokens or 0, candidate.deployment.max_output_tokens)
    return f"a prompt of {prompt} tokens and an answer of {answer} pass its window of {window}, and others have room"


def _affordable(among: Among, wanted: Wanted) -> Among:
    most = wanted.max_cost_usd
    if most is None:
        return among
    return [one for one in among if one.cost_usd(wanted.prompt_tokens, wanted.answer_tokens) <= most]


def _why_too_dear(candidate: Candidate, wanted: Wanted) -> str:
    cost = candidate.cost_usd(wanted.prompt_tokens, wanted.answer_tokens)
    most = usd(wanted.max_cost_usd or 0.0)
    if cost == UNPRICED:
        return f"its price is not known, and the call may cost {most} USD at most"
    return f"would cost about {usd(cost)} USD, and the call may cost {most} at most"


def _well(among: Among, wanted: Wanted) -> Among:
    # A client's own key has its own luck: that our key is refused or used up says nothing about it.
    if wanted.own_provider is not None:
        return among
    now = wanted.now
    return [one for one in among if one.health.available(now)]


_AFTER: Mapping[Cause | None, str] = {
    "failures": "after failures",
    "rate_limit": "because its provider limits us",
    "auth": "because its provider refuses our key",
    "quota": "because our account there is out of money or quota",
}


def _why_unwell(candidate: Candidate, wanted: Wanted) -> str:
    health = candidate.health
    why = _AFTER.get(health.cause, "after failures")
    if health.until <= wanted.now:
        return f"rested {why}, and one call is trying it just now"
    return f"rests {why}, for {health.until - wanted.now:.1f} s more"


# In the order in which they are asked; each with the words for whom it drops.
FILTERS: Mapping[FilterName, tuple[Keep, Reason]] = {
    "provider_key": (_same_provider, _why_other_provider),
    "security": (_secure, _why_insecure),
    "capability": (_able, _why_unable),
    "context_window": (_roomy, _why_too_small),
    "max_cost": (_affordable, _why_too_dear),
    "circuit": (_well, _why_unwell),
}
