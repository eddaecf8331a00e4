"""Counts what an upstream did not tell, and what a call will take: in a thread, and never in vain."""

from msgspec import Struct

from llmgateway.catalog.model import Deployment
from llmgateway.exchange import Call, Usage
from llmgateway.tokens import TokenCounter
from llmgateway.wire.texts import text_of_request


class PromptCount(Struct, frozen=True):
    """How many tokens a question has.

    Args:
        tokenizer: What counted: an encoding such as `o200k_base`, a file and the model it is for, or `estimate`.
        exact: Whether the model's own tokenizer counted all of it: nothing by a rule, as pictures and tools are.
    """

    tokens: int
    tokenizer: str
    exact: bool


async def estimate(call: Call, answer: str, counter: TokenCounter, model: str, tokenizer: str | None = None) -> Usage:
    """Count the tokens of a question and its answer.

    Args:
        answer: All that the model said.
        model: The name the provider knows, which says what tokenizer it has.
        tokenizer: As its deployment has it.
    """
    return await counter.apart(_estimated, call, answer, counter, model, tokenizer)


async def counted_prompt(call: Call, deployment: Deployment, counter: TokenCounter) -> PromptCount:
    """Count the tokens of a question before it is asked; without any table by a rule of thumb."""
    return await counter.apart(_counted_prompt, call, deployment, counter)


def _estimated(call: Call, answer: str, counter: TokenCounter, model: str, tokenizer: str | None) -> Usage:
    prompt = text_of_request(call.operation, call.body)
    return Usage(
        prompt_tokens=prompt.further_tokens + counter.counted(prompt.texts, model, tokenizer).tokens,
        completion_tokens=counter.counted([answer], model, tokenizer).tokens,
        estimated=True,
    )


def _counted_prompt(call: Call, deployment: Deployment, counter: TokenCounter) -> PromptCount:
    prompt = text_of_request(call.operation, call.body)
    counted = counter.counted(prompt.texts, deployment.model, deployment.tokenizer)
    of_file = counted.exact and deployment.tokenizer not in {None, counted.tokenizer}
    return PromptCount(
        prompt.further_tokens + counted.tokens,
        f"{counted.tokenizer} of {deployment.model}" if of_file else counted.tokenizer,
        exact=counted.exact and not prompt.is_rough,
    )
