"""What a call will use, guessed before it begins: for its limits, and for the books when nobody hears how it ended."""

from llmgateway.catalog.model import Deployment
from llmgateway.exchange import Call, Usage

# OpenAI's rule of thumb for English; and the length of an answer when nobody says.
_BYTES_PER_TOKEN = 4
_USUAL_ANSWER_TOKENS = 500
_MOST_TOKENS = 10**9


def expected(call: Call, deployment: Deployment) -> tuple[int, int]:
    """Guess the tokens of a question and of its answers, from what is known without counting."""
    prompt_tokens = len(call.body) // _BYTES_PER_TOKEN
    window = deployment.context_length
    if window is not None and prompt_tokens > window:
        # Pictures and sound: as text they would be longer than any prompt can be.
        prompt_tokens = window
    if call.operation == "embedding":
        return prompt_tokens, 0
    answer_tokens = call.max_tokens
    if answer_tokens is None:
        answer_tokens = _by_default(deployment) if deployment.defaults else _USUAL_ANSWER_TOKENS
    most = deployment.max_output_tokens
    if most is not None and answer_tokens > most:
        answer_tokens = most
    answer_tokens *= call.n
    return prompt_tokens, min(answer_tokens, _MOST_TOKENS)


def _by_default(deployment: Deployment) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        if isinstance(given := deployment.defaults.get(name), int):
            return given
    return _USUAL_ANSWER_TOKENS


def expected_usage(call: Call, deployment: Deployment) -> Usage:
    """Give the same as usage, marked as an estimate."""
    prompt_tokens, answer_tokens = expected(call, deployment)
    return Usage(prompt_tokens, answer_tokens, estimated=True)
