"""What a client is told when a filter left nobody: which one it was, and what would help."""

from collections.abc import Callable, Mapping, Sequence

from llmgateway.errors import (
    ContextLengthError,
    GatewayError,
    InvalidRequestError,
    MaxCostError,
    NoHealthyDeploymentError,
    PermissionDeniedError,
    UpstreamAuthError,
    UpstreamQuotaError,
    UpstreamRateLimitedError,
)
from llmgateway.headers import usd
from llmgateway.routing.choosing.candidate import UNPRICED, Candidate
from llmgateway.routing.choosing.filters import STREAMING, FilterName, Wanted, lacking
from llmgateway.wire.needs import NEEDED_BY

_LONGEST_NAME = 200  # a client chose it
# How long a call that tries whether a deployment is well may take, about.
_TRYING_S = 0.5

_DOES = {
    "vision": "take images",
    "audio": "take sound",
    "pdf": "take files",
    "tools": "use tools",
    "json_schema": "keep to a JSON schema",
    "reasoning": "reason",
    "audio_output": "answer with sound",
    "streaming": "stream",
}


def refusal(by: FilterName, model: str, among: Sequence[Candidate], wanted: Wanted) -> GatewayError:
    """Make the error for a call that nobody may answer.

    Args:
        by: The filter that left nobody.
        model: What was asked for.
        among: Who was left before it.
    """
    name = model[:_LONGEST_NAME]
    if not among:
        return NoHealthyDeploymentError(f"`{name}` has no deployment.", details={"filter": by})
    return _REFUSALS[by](name, among, wanted)


def _no_own_key(name: str, _: Sequence[Candidate], wanted: Wanted) -> GatewayError:
    return PermissionDeniedError(
        f"A key of {wanted.own_provider} was sent, and `{name}` is not answered with such keys here.",
        param="model",
        code="model_not_allowed",
        details={"filter": "provider_key"},
    )


def _sensitive(name: str, _: Sequence[Candidate], __: Wanted) -> GatewayError:
    return PermissionDeniedError(
        f"This text is sensitive, and no provider of `{name}` may see it. "
        "Ask for a model whose provider has the security level high.",
        param="model",
        code="sensitive_content",
        details={"filter": "security"},
    )


def _unable(name: str, among: Sequence[Candidate], wanted: Wanted) -> GatewayError:
    needs = wanted.needs | STREAMING if wanted.stream else wanted.needs
    # What all lack, if there is such a thing; else nobody has everything at once.
    missing = frozenset.intersection(needs, *(lacking(one) for one in among)) or needs
    named = [one for one in NEEDED_BY if one in missing] or sorted(missing)
    words = " and ".join(_DOES.get(one, one) for one in named)
    param = NEEDED_BY.get(named[0])
    return InvalidRequestError(
        f"No deployment of `{name}` can {words}, which this call needs (`{param}`). "
        "Ask for a model that can (GET /v1/models says what each is capable of), or leave it out.",
        param=param,
        code="unsupported_capability",
        details={"filter": "capability", "capabilities": named},
    )


def _too_long(name: str, among: Sequence[Candidate], wanted: Wanted) -> GatewayError:
    longest = max(one.deployment.context_length or 0 for one in among)
    prompt = wanted.fewest_prompt_tokens
    about = "" if prompt == wanted.most_prompt_tokens else "at least "
    return ContextLengthError(
        f"The prompt has {about}{prompt} tokens, and the longest context window of `{name}` has {longest}. "
        "Shorten the prompt, or ask for a model with a longer window.",
        details={"filter": "context_window", "prompt_tokens": prompt, "context_length": longest},
    )


def _too_dear(name: str, among: Sequence[Candidate], wanted: Wanted) -> GatewayError:
    least = min(one.cost_usd(wanted.prompt_tokens, wanted.answer_tokens) for one in among)
    most = usd(wanted.max_cost_usd or 0.0)
    details = {"filter": "max_cost", "estimated_cost_usd": None if least == UNPRICED else least, "cheapest": None}
    if least == UNPRICED:
        return MaxCostError(
            f"X-Max-Cost-USD allows {most} USD, and what `{name}` costs is not known here. Leave the header out, "
            "or ask for a model that has a price (GET /v1/models lists them).",
            param="X-Max-Cost-USD",
            details=details,
        )
    return MaxCostError(
        f"This call would cost about {usd(least)} USD with `{name}`, and X-Max-Cost-USD allows {most}. "
        "Allow more, ask for a shorter answer with max_tokens, or ask for a cheaper model.",
        param="X-Max-Cost-USD",
        details=details,
    )


def _unwell(name: str, among: Sequence[Candidate], wanted: Wanted) -> GatewayError:
    now = wanted.now
    # Who is half open has no such time: a call tries it just now, and tells when it has ended.
    waits_s = [one.health.until - now if one.health.until > now else _TRYING_S for one in among]
    after_s = min(waits_s)
    causes = {one.health.cause for one in among}
    details = {"filter": "circuit"}
    if causes == {"rate_limit"}:
        return UpstreamRateLimitedError(
            f"Every provider of `{name}` limits the gateway's account. Repeat in {after_s:.1f} s.",
            details=details,
            retry_after_s=after_s,
            may_retry=True,
        )
    if causes == {"auth"}:
        return UpstreamAuthError(
            f"Every provider of `{name}` refuses the gateway's key: whoever runs the gateway must look at it.",
            details=details,
            retry_after_s=after_s,
        )
    if causes == {"quota"}:
        return UpstreamQuotaError(
            f"The gateway's account at every provider of `{name}` is out of money or quota: "
            "whoever runs the gateway must look at it.",
            details=details,
            retry_after_s=after_s,
        )
    return NoHealthyDeploymentError(
        f"No deployment of `{name}` is well just now. Repeat in {after_s:.1f} s, or ask for another model.",
        details=details,
        retry_after_s=after_s,
        may_retry=any(one.health.until <= now for one in among),
    )


_REFUSALS: Mapping[FilterName, Callable[[str, Sequence[Candidate], Wanted], GatewayError]] = {
    "provider_key": _no_own_key,
    "security": _sensitive,
    "capability": _unable,
    "context_window": _too_long,
    "max_cost": _too_dear,
    "circuit": _unwell,
}
