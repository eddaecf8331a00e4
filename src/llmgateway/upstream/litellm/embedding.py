"""Embeddings of translated providers, by LiteLLM's own call; the form of the vectors is made here."""

import array
import base64
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from llmgateway.catalog.model import Deployment
from llmgateway.errors import InvalidRequestError
from llmgateway.exchange import Call, Complete
from llmgateway.upstream.litellm.errors import Reading, calling
from llmgateway.upstream.litellm.library import library_arguments
from llmgateway.upstream.litellm.pieces import usage_of
from llmgateway.upstream.litellm.question import unsupported
from llmgateway.upstream.litellm.translation import joined

_ENVELOPE = frozenset({"model", "input", "encoding_format", "user"})
# Providers' own parameters; the same names at all that have them.
_OWN = frozenset({"input_type", "truncate", "task_type", "title"})
_OPENAI = frozenset({"dimensions"})
# LiteLLM would take a text that starts so for a file of our own account, and fetch it.
_FILES = ("files/", "gs://", "https://generativelanguage.googleapis.com/")
_GOOGLE = frozenset({"gemini", "vertex_ai", "vertex_ai_beta"})
_COHERE = frozenset({"cohere", "cohere_chat"})


async def embed(litellm: Any, deployment: Deployment, call: Call) -> Complete:
    """Ask for vectors.

    Raises:
        InvalidRequestError: The input is token ids, or the form of the vectors is unknown.
        UnsupportedParameterError: A parameter that the provider does not have, and the model does not drop it.
        UpstreamError: The provider failed or refused.
    """
    body = {**deployment.defaults, **msgspec.json.decode(call.body)}
    texts = _texts(body.get("input"))
    as_base64 = _wants_base64(body.get("encoding_format"))
    account = deployment.account
    if account.provider in _GOOGLE and any(text.startswith(_FILES) for text in texts):
        raise InvalidRequestError("Only texts are embedded, not files: start the text in another way.", param="input")
    arguments = library_arguments(deployment)
    if account.provider in _COHERE and account.api_base:
        # LiteLLM takes Cohere's address for embeddings whole.
        arguments["api_base"] = joined(account.api_base.removesuffix("/chat"), "/v2", "/embed")
    with calling(account):
        answer = await litellm.aembedding(input=texts, **_asked(body, deployment), **arguments)
    with Reading(account):
        return _answer(answer, deployment, as_base64=as_base64)


def _texts(given: object) -> list[str]:
    texts = [given] if isinstance(given, str) else given
    if isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts):
        return texts
    raise InvalidRequestError(
        "This provider embeds texts, not token ids: send a string or a list of strings.", param="input"
    )


def _wants_base64(form: object) -> bool:
    if form not in {None, "float", "base64"}:
        raise InvalidRequestError("encoding_format is float or base64.", param="encoding_format")
    return form == "base64"


def _asked(body: dict[str, Any], deployment: Deployment) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    for name, value in body.items():
        if name in _ENVELOPE or value is None:
            continue
        if name in _OWN | _OPENAI:
            asked[name] = value
        elif not deployment.drop_unsupported:
            raise unsupported(name, deployment)
    return asked


def _answer(answer: Any, deployment: Deployment, *, as_base64: bool) -> Complete:
    vectors = [item["embedding"] for item in answer.data]
    prompt_tokens = int(answer.usage.prompt_tokens or 0) if answer.usage else 0
    rows = [
        {"object": "embedding", "index": index, "embedding": _packed(vector) if as_base64 else vector}
        for index, vector in enumerate(vectors)
    ]
    whole = {
        "object": "list",
        "data": rows,
        "model": deployment.model,
        "usage": {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens},
    }
    return Complete(
        msgspec.json.encode(whole),
        usage=usage_of({"prompt_tokens": prompt_tokens}),
        model=deployment.model,
    )


def _packed(vector: Sequence[float]) -> str:
    """Pack as OpenAI does: 32-bit floats, the lowest byte first."""
    floats = array.array("f", vector)
    if sys.byteorder == "big":
        floats.byteswap()
    return base64.b64encode(floats.tobytes()).decode()
