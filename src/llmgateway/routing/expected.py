"""What a call will use, guessed before it begins: for the choice, its limits, and the books when nobody hears its end.

Nothing is counted here, for that takes a thread: see `routing/estimate.py`.
"""

import re

from llmgateway.catalog.model import Deployment
from llmgateway.exchange import Call, Usage
from llmgateway.wire.media import MEDIA_NEEDS, NO_MEDIA, media_of

# OpenAI's rule of thumb for English; and the length of an answer when nobody says.
_BYTES_PER_TOKEN = 4
_USUAL_ANSWER_TOKENS = 500
_MOST_TOKENS = 10**9
# The bounds of `rough_bounds`, whose reasons are given there.
_FEWEST_BYTES_PER_TOKEN = 1.6
_MOST_BYTES_PER_TOKEN = 32
_BESIDE_PROMPT_BYTES = 8_192
_MEDIA_AT_MOST = 3
# Where the lower bound begins to matter: it holds unless most of the body is base64, of which three places tell.
_LONG_BYTES = 100_000
_BASE64 = re.compile(rb"[A-Za-z0-9+/=\\]{128}")


def expected(call: Call, deployment: Deployment, prompt_tokens: int | None = None) -> tuple[int, int]:
    """Guess the tokens of a question and of its answers, from what is known without counting.

    Args:
        prompt_tokens: Of the question, where they have been counted.
    """
    if prompt_tokens is None:
        # As usual: all of it is text.
        prompt_tokens = len(call.body) // _BYTES_PER_TOKEN if not call.needs else _roughly(call)
        window = deployment.context_length
        if window is not None and prompt_tokens > window:
            # Longer than any prompt can be: something that is no text, in a place where nobody looked for it.
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
    return prompt_tokens, answer_tokens if answer_tokens < _MOST_TOKENS else _MOST_TOKENS  # noqa: FURB136  `min` is a call


def expected_usage(call: Call, deployment: Deployment) -> Usage:
    """Give the same as usage, marked as an estimate."""
    prompt_tokens, answer_tokens = expected(call, deployment)
    return Usage(prompt_tokens, answer_tokens, estimated=True)


def rough_bounds(call: Call) -> tuple[int, int]:
    """Give bounds of a prompt's tokens that are nearly sure, from its bytes alone, to see whether counting is needed.

    The upper one is five tokens for every eight bytes of text. English takes 4 to 5 bytes a token and other languages
    3 to 8, JSON and code some 3, dates about 2, and what frames a message is longer in JSON than the tokens it counts;
    rare scripts may take fewer. Pictures and their like count three times their rule, since models differ.

    The lower one is a token for every 32 bytes of text, beyond the 8 KB that `metadata`, `logit_bias` and other fields
    may take that are no prompt. In no language do words come near it, not even when JSON writes every letter as an
    escape of six bytes; only long rows of one character do, such as blanks.
    """
    media = NO_MEDIA
    if (call.needs and not MEDIA_NEEDS.isdisjoint(call.needs)) or _is_mostly_base64(call.body):
        media = media_of(call.body, call.needs & MEDIA_NEEDS or MEDIA_NEEDS)
    text_bytes = len(call.body) - media.base64_bytes
    fewest = (text_bytes - _BESIDE_PROMPT_BYTES) // _MOST_BYTES_PER_TOKEN
    return max(0, fewest), int(text_bytes / _FEWEST_BYTES_PER_TOKEN) + _MEDIA_AT_MOST * media.tokens


def _roughly(call: Call) -> int:
    if MEDIA_NEEDS.isdisjoint(call.needs):
        return len(call.body) // _BYTES_PER_TOKEN
    media = media_of(call.body, call.needs)
    return (len(call.body) - media.base64_bytes) // _BYTES_PER_TOKEN + media.tokens


def _is_mostly_base64(body: bytes) -> bool:
    """Whether a long body holds what the call says nothing of; words have blanks or other letters between them."""
    length = len(body)
    return length > _LONG_BYTES and any(_BASE64.match(body, length * part // 4) for part in (1, 2, 3))


def _by_default(deployment: Deployment) -> int:
    for name in ("max_completion_tokens", "max_tokens"):
        if isinstance(given := deployment.defaults.get(name), int):
            return given
    return _USUAL_ANSWER_TOKENS
