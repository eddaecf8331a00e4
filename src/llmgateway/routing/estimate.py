"""Counts what an upstream did not tell: in a thread, and never in vain."""

import asyncio
from collections.abc import Iterable

from llmgateway.exchange import Call, Usage
from llmgateway.tokens import TokenCounter
from llmgateway.wire.texts import text_of_request

# OpenAI's rule of thumb for English, which is what is left when the tokenizer is not to be had.
_BYTES_PER_TOKEN = 4


async def estimate(call: Call, answer: str, counter: TokenCounter, model: str) -> Usage:
    """Count the tokens of a question and its answer.

    Args:
        answer: All that the model said.
        model: The name the provider knows, which says what tokenizer it has.
    """
    return await asyncio.to_thread(_estimated, call, answer, counter, model)


def _estimated(call: Call, answer: str, counter: TokenCounter, model: str) -> Usage:
    prompt = text_of_request(call.operation, call.body)
    return Usage(
        prompt_tokens=prompt.further_tokens + _count(prompt.texts, counter, model),
        completion_tokens=_count([answer], counter, model),
        estimated=True,
    )


def _count(texts: Iterable[str], counter: TokenCounter, model: str) -> int:
    try:
        return sum(counter.count_here(text, model) for text in texts)
    except Exception:  # noqa: BLE001  a missing or damaged table must not cost the answer that was given
        return sum(len(text.encode(errors="replace")) for text in texts) // _BYTES_PER_TOKEN
