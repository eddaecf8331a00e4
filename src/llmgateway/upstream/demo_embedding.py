"""Embeddings without a model: words hashed into a unit vector, so that texts with the same words are near."""

import base64
import hashlib
import math
import struct
from collections import Counter
from collections.abc import Iterable
from typing import Any

from llmgateway.errors import InvalidRequestError
from llmgateway.upstream.demo_answer import count_tokens
from llmgateway.upstream.demo_summary import terms

DIMENSIONS = 256
_MAX_DIMENSIONS = 4096
_MAX_INPUTS = 2048


def embed(body: dict[str, Any], model: str) -> tuple[dict[str, Any], int]:
    """Answer an embeddings request: OpenAI's list object, and the tokens of the input.

    Raises:
        InvalidRequestError: `input`, `dimensions` or `encoding_format` is not what OpenAI's API takes.
    """
    inputs = _inputs(body.get("input"))
    dimensions = _dimensions(body.get("dimensions"))
    as_base64 = _as_base64(body.get("encoding_format"))
    tokens = sum(count_tokens(text) if isinstance(text, str) else len(text) for text in inputs)
    vectors = [unit_vector(terms(text) if isinstance(text, str) else map(str, text), dimensions) for text in inputs]
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _packed(vector) if as_base64 else vector}
            for index, vector in enumerate(vectors)
        ],
        "model": model,
        "system_fingerprint": "demo",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }, tokens


def unit_vector(words: Iterable[str], dimensions: int) -> list[float]:
    """Hash words into a vector of length one (feature hashing: Weinberger et al., 2009)."""
    vector = [0.0] * dimensions
    counted = Counter(words)
    for word, times in counted.items():
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        sign = 1.0 if digest[7] & 1 else -1.0
        vector[int.from_bytes(digest[:7], "big") % dimensions] += sign * (1 + math.log(times))
    length = math.sqrt(sum(value * value for value in vector))
    if length == 0:  # Only punctuation, or words that cancelled each other: any fixed direction is as good.
        return [1.0] + [0.0] * (dimensions - 1)
    return [value / length for value in vector]


def _inputs(value: Any) -> list[str | list[int]]:
    """Read OpenAI's four forms: a text, texts, one array of tokens, arrays of tokens."""
    inputs = [value] if isinstance(value, str) or _is_tokens(value) else value
    if not isinstance(inputs, list) or not 1 <= len(inputs) <= _MAX_INPUTS:
        raise InvalidRequestError(
            f"`input` must be a text, an array of 1 to {_MAX_INPUTS} texts, or arrays of tokens.", param="input"
        )
    for index, item in enumerate(inputs):
        if not (isinstance(item, str) and item) and not _is_tokens(item):
            param = "input" if inputs is not value else f"input[{index}]"
            raise InvalidRequestError(
                f"`{param}` must be a text that is not empty, or an array of tokens.", param=param
            )
    return inputs


def _is_tokens(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(token) is int for token in value)


def _dimensions(value: Any) -> int:
    if value is None:
        return DIMENSIONS
    if type(value) is not int or not 1 <= value <= _MAX_DIMENSIONS:
        raise InvalidRequestError(
            f"`dimensions` must be a whole number from 1 to {_MAX_DIMENSIONS}.", param="dimensions"
        )
    return value


def _as_base64(value: Any) -> bool:
    if value not in (None, "float", "base64"):
        raise InvalidRequestError("`encoding_format` must be `float` or `base64`.", param="encoding_format")
    return bool(value == "base64")


def _packed(vector: list[float]) -> str:
    """OpenAI API reference: base64 is of little-endian 32-bit floats."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
