"""Tokenizers: which there are, how many tokens a text has, and how to load one before it is needed.

What a client sends never names a file: encodings have names of their own, and a file is reached by its model's.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Annotated, Any

from msgspec import Struct
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.caller import Caller
from llmgateway.catalog.snapshot import Catalog
from llmgateway.documents_api.asked import Body, body_asked, large_body_asked, page_asked, short, unprocessable
from llmgateway.documents_api.entities.checks import check_model
from llmgateway.documents_api.entities.shown import page_of
from llmgateway.documents_api.shelves.viewer import viewer_of
from llmgateway.documents_api.shown import json_answer
from llmgateway.jobs.windows import window_of
from llmgateway.tokens import Counted, TokenCounter
from llmgateway.tokens.encodings import ENCODINGS

_PATH = "/api/v1/tokenizers"
_MOST_TEXTS = 1_000
_LONGEST_NAME = 256

Name = Annotated[str, Field(min_length=1, max_length=_LONGEST_NAME)]


class TokenizerChoice(Body):
    """Which tokenizer is meant: a model's own, or one of the encodings; without either the estimate's."""

    model: Name | None = None
    tokenizer: Name | None = None


class TokenCounting(TokenizerChoice):
    """What is to be counted: one text, or several."""

    text: str | None = None
    texts: Annotated[tuple[str, ...], Field(min_length=1, max_length=_MOST_TEXTS)] | None = None


class _Meant(Struct, frozen=True):
    """As `TokenCounter` takes it."""

    model: str
    tokenizer: str | None


def routes(counter: TokenCounter, catalog: Callable[[], Catalog]) -> list[Route]:
    """Serve `/api/v1/tokenizers`."""

    async def list_tokenizers(request: Request) -> Response:
        number, size = page_asked(request)
        loaded = counter.loaded()
        encodings = [_shown(name, "tiktoken", (), is_loaded=name in loaded) for name in ENCODINGS]
        files = [
            _shown(PurePath(path).name, "huggingface", models, is_loaded=path in loaded)
            for path, models in _files(catalog(), viewer_of(request).caller).items()
        ]
        return page_of([*encodings, *files], number, size, dict)

    async def count(request: Request) -> Response:
        body = await large_body_asked(request, TokenCounting)
        texts = _texts(body)
        meant = _meant(body, catalog(), viewer_of(request).caller)
        counted = await counter.apart(_counted, counter, texts, meant)
        return json_answer(
            {
                "tokens": sum(one.tokens for one in counted),
                "counts": None if body.texts is None else [one.tokens for one in counted],
                "characters": sum(map(len, texts)),
                "model": body.model,
                "tokenizer": counted[0].tokenizer,
                "exact": counted[0].exact,
            }
        )

    async def preload(request: Request) -> Response:
        body = body_asked(request, TokenizerChoice)
        if body.model is None and body.tokenizer is None:
            raise unprocessable([(("body", "model"), "name a model, or a tokenizer")])
        meant = _meant(body, catalog(), viewer_of(request).caller)
        [counted] = await counter.apart(_counted, counter, ["a"], meant)
        loaded = counter.loaded()
        is_loaded = bool(loaded) if meant.tokenizer is None else meant.tokenizer in loaded
        return json_answer({"tokenizer": counted.tokenizer, "exact": counted.exact, "loaded": is_loaded})

    return [
        Route(_PATH, list_tokenizers, methods=["GET"]),
        Route(f"{_PATH}/count", count, methods=["POST"]),
        Route(f"{_PATH}/preload", preload, methods=["POST"]),
    ]


def _counted(counter: TokenCounter, texts: Sequence[str], meant: _Meant) -> list[Counted]:
    return [counter.counted([text], meant.model, meant.tokenizer) for text in texts]


def _texts(body: TokenCounting) -> Sequence[str]:
    if (body.text is None) == (body.texts is None):
        raise unprocessable([(("body", "text"), "send either `text`, or several as `texts`")])
    return body.texts or (body.text or "",)


def _meant(body: TokenizerChoice, catalog: Catalog, caller: Caller) -> _Meant:
    """Find out which tokenizer is meant. Raises: UnprocessableError, DocumentError."""
    if body.tokenizer is not None:
        if body.model is not None:
            raise unprocessable([(("body", "tokenizer"), "name either a model or a tokenizer")])
        if body.tokenizer not in ENCODINGS:
            there = f"write one of {', '.join(ENCODINGS)}, or name the model whose own is meant"
            raise unprocessable([(("body", "tokenizer"), f"is {short(body.tokenizer)}: {there}")])
        return _Meant("", body.tokenizer)
    if body.model is None:
        return _Meant("", None)
    check_model(body.model, catalog, caller)
    window = window_of(catalog, body.model)
    return _Meant(window.upstream_model, window.tokenizer)


def _files(catalog: Catalog, caller: Caller) -> Mapping[str, Sequence[str]]:
    """Give the files of the catalog by their paths, each with the models it counts for."""
    found: dict[str, list[str]] = {}
    for name, model in catalog.models.items():
        if not caller.may_use(name):
            continue
        named = {one.tokenizer for one in model.deployments if one.tokenizer is not None}
        for path in sorted(named - set(ENCODINGS)):
            found.setdefault(path, []).append(name)
    return found


def _shown(name: str, kind: str, models: Sequence[str], *, is_loaded: bool) -> dict[str, Any]:
    return {"name": name, "type": kind, "models": models, "loaded": is_loaded}
