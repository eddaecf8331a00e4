"""Which tokenizer counts for which model, each loaded once, by the first count that needs it."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import ParamSpec, TypeVar

import tiktoken
from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from llmgateway.tokens.encodings import (
    ENCODINGS,
    count_with,
    encoding_name,
    has_own_encoding,
    load_encoding,
    tables_folder,
)
from llmgateway.tokens.files import Count, TokenizerFiles

# About 2 ms of work at most; above it other requests must not wait.
_INLINE_CHARS = 10_000
# Two texts at once, however many wait: the event loop's own threads must stay free, for they also look up names.
_THREADS = 2
# OpenAI's rule of thumb for English, which is what is left when no tokenizer is to be had.
_BYTES_PER_TOKEN = 4
_CLAUDE = "anthropic_tokenizer.json"
_ESTIMATED = "estimate"

P = ParamSpec("P")
T = TypeVar("T")


class Counted(Struct, frozen=True):
    """How many tokens some texts have.

    Args:
        tokenizer: The encoding's name, a file's name, or `estimate`.
        exact: Whether it is the model's own tokenizer.
    """

    tokens: int
    tokenizer: str
    exact: bool


class _Tokenizer(Struct, frozen=True):
    count: Count
    name: str
    exact: bool


class TokenCounter:
    """Counts tokens without ever asking the network.

    Exact for OpenAI's models, and for those whose deployment names its tokenizer. For Claude an estimate with the
    tokenizer that Anthropic published for Claude 2, for all others with `o200k_base` (docs/tokenizers.md).

    Args:
        folder: Where tiktoken's tables are; `None` finds them in LiteLLM's package, without importing it.
        logger: Is told, once, of a file that cannot be used.
    """

    def __init__(self, folder: Path | None = None, logger: FilteringBoundLogger | None = None) -> None:
        self._folder = folder
        self._encodings: dict[str, tiktoken.Encoding] = {}
        self._loading = Lock()
        self._files = TokenizerFiles(logger)
        self._threads = ThreadPoolExecutor(_THREADS, "tokens")

    async def count(self, text: str, model: str, tokenizer: str | None = None) -> int:
        """Count the tokens of a text for a model, with or without its provider's prefix.

        Args:
            tokenizer: As a deployment of the catalog has it.

        Raises:
            FileNotFoundError: LiteLLM's package is there without its tables.
        """
        encoding = None if tokenizer or _is_claude(model) else self._encodings.get(encoding_name(model))
        if encoding is None or len(text) > _INLINE_CHARS:
            return await self.apart(self.count_here, text, model, tokenizer)
        return len(encoding.encode_ordinary(text))

    def count_here(self, text: str, model: str, tokenizer: str | None = None) -> int:
        """Count in the thread that asks: not on an event loop.

        Raises:
            FileNotFoundError: LiteLLM's package is there without its tables.
        """
        return self._found(model, tokenizer).count(text)

    def counted(self, texts: Sequence[str], model: str, tokenizer: str | None = None) -> Counted:
        """Count several texts in the thread that asks, and say with what; without any table by a rule of thumb."""
        try:
            found = self._found(model, tokenizer)
            return Counted(sum(map(found.count, texts)), found.name, found.exact)
        except Exception:  # noqa: BLE001  a missing or damaged table must not cost the call that is being counted
            in_bytes = sum(len(text.encode(errors="replace")) for text in texts)
            return Counted(in_bytes // _BYTES_PER_TOKEN, _ESTIMATED, exact=False)

    def loaded(self) -> frozenset[str]:
        """Name the encodings, and the paths of the files, that are in memory now."""
        return frozenset(self._encodings) | self._files.loaded()

    async def apart(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do work that counts in one of the counter's own threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args, **kwargs))

    def _found(self, model: str, tokenizer: str | None) -> _Tokenizer:
        if tokenizer is None:
            return self._usual(model)
        if tokenizer in ENCODINGS:
            return self._encoded(tokenizer, tokenizer, exact=True)
        path = Path(tokenizer)
        count = self._files.count(path)
        return self._estimate(model) if count is None else _Tokenizer(count, path.name, exact=True)

    def _usual(self, model: str) -> _Tokenizer:
        if has_own_encoding(model):
            name = encoding_name(model)
            return self._encoded(name, name, exact=True)
        return self._estimate(model)

    def _estimate(self, model: str) -> _Tokenizer:
        if _is_claude(model):
            count = self._files.count(self._tables() / _CLAUDE)
            if count is not None:
                return _Tokenizer(count, _ESTIMATED, exact=False)
        return self._encoded(encoding_name(model), _ESTIMATED, exact=False)

    def _encoded(self, name: str, shown: str, *, exact: bool) -> _Tokenizer:
        encoding = self._encodings.get(name)
        if encoding is None:
            with self._loading:
                if name not in self._encodings:
                    self._encodings[name] = load_encoding(name, self._tables())
                encoding = self._encodings[name]
        return _Tokenizer(partial(count_with, encoding), shown, exact)

    def _tables(self) -> Path:
        return self._folder or tables_folder()


def _is_claude(model: str) -> bool:
    return "claude" in model.lower()
