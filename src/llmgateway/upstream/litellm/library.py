"""LiteLLM itself: imported once, off the event loop, without a network call; and the calls that it makes by itself.

Those cost ten times what a direct one does, so they are for providers with their own signing and framing.
"""

import asyncio
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Self

from llmgateway.catalog.model import Deployment
from llmgateway.errors import UpstreamError
from llmgateway.exchange import Call, Reply, Streamed
from llmgateway.malloc import give_back
from llmgateway.upstream.litellm.answers import ChunkWriter, whole_answer
from llmgateway.upstream.litellm.errors import Reading, calling
from llmgateway.upstream.litellm.pieces import answer_pieces, pieces_of, usage_of
from llmgateway.upstream.litellm.question import known_parameters, read_question, refuse_remote_media
from llmgateway.upstream.litellm.reexports import loaded_when_used

# Read by LiteLLM while it is imported, or by its downloads later.
_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    # Otherwise it reads a .env file of its own accord.
    "LITELLM_MODE": "PRODUCTION",
    # A client's image address must never be fetched from here, whatever slips through our own check.
    "MAX_IMAGE_URL_DOWNLOAD_SIZE_MB": "0",
}
# What pydantic says of LiteLLM's classes is for LiteLLM's authors.
_WARNINGS = {UserWarning: "Items? '.*' on TypedDict class", DeprecationWarning: "Accessing the 'model_"}
_LOGGERS = ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router")
# The caller's deadline ends a call; LiteLLM wants a limit of its own all the same.
_NO_TIMEOUT_S = 6000.0
# With an ending the file's type is clear; without one LiteLLM would ask Google for it.
_GOOGLE_FILE = re.compile(r"gs://\S+\.\w{2,5}", re.ASCII)
# They refuse the parameter, and do not try again anyway.
_NO_MAX_RETRIES = frozenset({"gradient_ai"})
# Kept of each kind: models, times what is asked of them.
_LOOK_UPS = 4096
_GOOGLE = frozenset({"vertex_ai", "vertex_ai_beta"})


class Library:
    """LiteLLM's module, imported by the first call that needs it or by `warm` at start."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._module: Any = None

    async def ready(self) -> Any:
        """Return the module; the first caller waits for its import, and the event loop does not."""
        if self._module is None:
            async with self._lock:
                if self._module is None:
                    self._module = await asyncio.to_thread(load_litellm)
        return self._module

    async def close(self) -> None:
        """Close the connections that LiteLLM keeps, if it was ever loaded."""
        if self._module is not None:
            await self._module.close_litellm_async_clients()
            self._module.in_memory_llm_clients_cache.flush_cache()


def load_litellm() -> Any:
    """Import LiteLLM; takes two seconds or more, so never on the event loop."""
    os.environ.update(_ENVIRONMENT)  # noqa: TID251  LiteLLM has no other switch for what it does while it is imported
    for category, message in _WARNINGS.items():
        warnings.filterwarnings("ignore", message=message, category=category)
    with loaded_when_used("openai.types"), _built_when_used():
        import litellm
        from litellm.llms.custom_httpx import http_handler

    # Every client it opens for a provider is made from this name.
    clients: Any = http_handler
    if not hasattr(clients.AsyncHTTPHandler, "asks_once"):
        clients.AsyncHTTPHandler = _asking_once(clients.AsyncHTTPHandler)
    litellm.suppress_debug_info = True
    litellm.telemetry = False
    litellm.drop_params = False
    litellm.modify_params = False
    litellm.num_retries = 0
    litellm.disable_hf_tokenizer_download = True
    litellm.disable_streaming_logging = True
    for name in _LOGGERS:
        _tell_where(logging.getLogger(name))
    _remember_what_models_can(litellm)
    _keep_one_table(litellm)
    # 13 MB that nobody reads: the text that LiteLLM has made of it is what its tokenizer takes.
    vars(litellm.utils).pop("json_data", None)
    give_back()
    return litellm


@contextmanager
def _built_when_used() -> Iterator[None]:
    """Have pydantic build what checks a class when that is first used: of most of LiteLLM's classes it never is."""
    from pydantic import BaseModel

    BaseModel.model_config["defer_build"] = True
    try:
        yield
    finally:
        del BaseModel.model_config["defer_build"]


def _keep_one_table(litellm: Any) -> None:
    """Have LiteLLM use one table of models.

    It reads its file once more with the first call, which waits for 3 MB of JSON, for what a table fetched from the
    network may lack; and keeps a copy for its proxy. Ours is of the file, and has all that those have.
    """
    from litellm import utils
    from litellm.litellm_core_utils.get_model_cost_map import GetModelCostMap

    setattr(utils, "get_bundled_model_cost_map", lambda: litellm.model_cost)  # noqa: B010  of another type
    GetModelCostMap._loaded_catalog = litellm.model_cost  # noqa: SLF001  it has no other way


def _remember_what_models_can(litellm: Any) -> None:
    """Have LiteLLM look up a model's abilities once and not several times with every call: its table never changes.

    Half of what a translation takes is finding the model in that table, by each of its possible names.
    """
    from litellm import utils
    from litellm.llms.anthropic.common_utils import AnthropicModelInfo
    from litellm.llms.vertex_ai import common_utils

    # A class method is unwrapped by hand: the class that it is asked of is a part of the question.
    defaults = litellm.AnthropicConfig.get_config.__func__
    if hasattr(defaults, "cache_info"):
        return
    litellm.AnthropicConfig.get_config = classmethod(_remembered(defaults))
    for name in ("_supports_model_capability", "_get_model_capability"):
        setattr(AnthropicModelInfo, name, staticmethod(_remembered(getattr(AnthropicModelInfo, name))))
    places: tuple[tuple[Any, str], ...] = ((utils, "supports_factory"), (common_utils, "get_type_hints"))
    for module, name in places:
        setattr(module, name, _remembered(getattr(module, name)))


def _remembered(look_up: Callable[..., Any]) -> Any:
    return lru_cache(maxsize=_LOOK_UPS)(look_up)


def _tell_where(logger: logging.Logger) -> None:
    """Bring a logger's warnings to our stream, and only there, without their words.

    LiteLLM writes prompts, answers and keys into its messages at every level; what matters of them arrives as an
    exception. That it warned, and where, is for whoever looks for the cause.
    """
    logger.handlers = []
    logger.filters = [_without_words]
    logger.propagate = True
    logger.setLevel(logging.WARNING)


def _without_words(record: logging.LogRecord) -> bool:
    record.msg = f"LiteLLM warned in {record.filename}, {record.funcName}"
    if record.exc_info and record.exc_info[0] is not None:
        record.msg += f" ({record.exc_info[0].__name__})"
    record.args = record.exc_info = record.exc_text = record.stack_info = None
    return True


def _asking_once(client: Any) -> Any:
    """Make LiteLLM's HTTP client one that follows no redirect, and does not ask again when a connection is lost."""

    class AskingOnce(client):  # type: ignore[misc]  # the base is known when LiteLLM is loaded
        asks_once = True

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **{**named, "follow_redirects": False})

        async def single_connection_post_request(self, *_: Any, **__: Any) -> Any:
            # It is called while the failure is handled, which is all that there is to tell.
            raise sys.exception() or ConnectionError

    return AskingOnce


class LibraryCall:
    """One deployment that LiteLLM calls by itself."""

    def __init__(self, litellm: Any, deployment: Deployment) -> None:
        account = deployment.account
        supported = litellm.get_supported_openai_params(deployment.model, custom_llm_provider=account.provider)
        self._litellm = litellm
        self._deployment = deployment
        self._known = known_parameters(account.provider, supported or [], _config(deployment))
        self._fixed: dict[str, Any] = library_arguments(deployment)

    async def send(self, call: Call) -> Reply:
        """Ask once. Raises: UpstreamError and its like, as every upstream."""
        question = read_question(call, self._deployment, self._known)
        refuse_remote_media(question.messages, self._passes)
        asked = {**question.own, **question.parameters, **self._fixed, "messages": question.messages}
        if call.stream:
            asked |= {"stream": True, "stream_options": {"include_usage": True}}
        account = self._deployment.account
        with calling(account):
            answer = await self._litellm.acompletion(**asked)
        if not call.stream:
            with Reading(account):
                return whole_answer(answer_pieces(answer), call, self._deployment.model)
        chunks = LibraryChunks(answer, self._deployment, ChunkWriter(call, self._deployment.model))
        try:
            await chunks.prime()
        except BaseException:
            await chunks.aclose()
            raise
        return chunks.stream

    def _passes(self, address: str) -> bool:
        return self._deployment.account.provider in _GOOGLE and _GOOGLE_FILE.fullmatch(address) is not None


class LibraryChunks:
    """A stream that LiteLLM reads by itself, written as ours."""

    def __init__(self, wrapper: Any, deployment: Deployment, writer: ChunkWriter) -> None:
        self._wrapper = wrapper
        self._account = deployment.account
        self._model = deployment.model
        self._writer = writer
        self._first = b""
        self._over = False
        self.stream = Streamed(chunks=self, model=writer.model)

    def __aiter__(self) -> Self:
        return self

    async def prime(self) -> None:
        """Wait for the first event. Raises: UpstreamError for an error instead of one, or for nothing at all."""
        self._first = await self._read()

    async def __anext__(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        if self._over:
            raise StopAsyncIteration
        return await self._read()

    async def aclose(self) -> None:
        self._over = True
        await self._wrapper.aclose()

    async def _read(self) -> bytes:
        while True:
            with calling(self._account):
                chunk = await anext(self._wrapper, None)
            if chunk is None:
                return self._end()
            with Reading(self._account):
                chunks = b"".join(map(self._writer.write, pieces_of(chunk)))
            self.stream.usage = usage_of(self._writer.usage)
            self.stream.model = self._writer.model
            if chunks:
                return chunks

    def _end(self) -> bytes:
        """Finish a whole answer; LiteLLM makes up a reason to stop where the provider gave none."""
        self._over = True
        if self._wrapper.received_finish_reason is None:
            raise UpstreamError(
                f"{self._account.provider} ended the stream before the answer was complete.", may_retry=True
            )
        return self._writer.finish()


def library_arguments(deployment: Deployment) -> dict[str, Any]:
    """Say where a call by LiteLLM goes and as whom: all from the catalog, nothing from a client."""
    account = deployment.account
    retries = {} if account.provider in _NO_MAX_RETRIES else {"max_retries": 0}
    places = {"api_key": account.api_key, "api_base": account.api_base, "api_version": account.api_version}
    return {
        **account.options,
        **{name: value for name, value in places.items() if value is not None},
        "model": f"{account.provider}/{deployment.model}",
        "timeout": account.timeout_s or _NO_TIMEOUT_S,
        "num_retries": 0,
        **retries,
        "drop_params": deployment.drop_unsupported,
        "no-log": True,
        # Otherwise every call with tools imports LiteLLM's MCP server, which is not installed.
        "_skip_mcp_handler": True,
    }


def _config(deployment: Deployment) -> Any:
    from litellm.types.utils import LlmProviders
    from litellm.utils import ProviderConfigManager

    try:
        provider = LlmProviders(deployment.account.provider)
    except ValueError:  # one that LiteLLM only knows by a prefix of the model's name
        return None
    return ProviderConfigManager.get_provider_chat_config(deployment.model, provider)
