"""Counts tokens with OpenAI's tokenizers, offline: their tables come with LiteLLM's package."""

import asyncio
import base64
import hashlib
import re
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from types import FunctionType

import tiktoken

# Those whose tables are on disk; the two of every model since 2022.
_ENCODINGS = ("cl100k_base", "o200k_base")
_ESTIMATE = "o200k_base"
# About 2 ms of work at most; above it other requests must not wait.
_INLINE_CHARS = 10_000
# tiktoken's regular expressions run out of stack, and panic, between 300,000 and a million blanks in a row.
_MOST_BLANKS = 100_000
_BLANKS = re.compile(r"\s++")


class TokenCounter:
    """Counts tokens without ever asking the network.

    Exact for OpenAI's models. For all others an estimate with `o200k_base`: the tokenizers of other providers give
    some 10 to 30 % more or fewer, in scripts other than Latin up to twice as many.

    Args:
        folder: Where tiktoken's tables are; `None` finds them in LiteLLM's package, without importing it.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._encodings: dict[str, tiktoken.Encoding] = {}
        self._loading = Lock()

    async def count(self, text: str, model: str) -> int:
        """Count the tokens of a text for a model, with or without its provider's prefix.

        Raises:
            FileNotFoundError: LiteLLM's package is there without its tables.
        """
        name = encoding_name(model)
        encoding = self._encodings.get(name)
        if encoding is None or len(text) > _INLINE_CHARS:
            return await asyncio.to_thread(self._count, text, name)
        return len(encoding.encode_ordinary(text))

    def count_here(self, text: str, model: str) -> int:
        """Count in the thread that asks: not on an event loop.

        Raises:
            FileNotFoundError: LiteLLM's package is there without its tables.
        """
        return self._count(text, encoding_name(model))

    def _count(self, text: str, name: str) -> int:
        with self._loading:
            if name not in self._encodings:
                self._encodings[name] = _load(name, self._folder or tables_folder())
        # What looks like a special token is text here: nobody may end a prompt from within it.
        return sum(len(self._encodings[name].encode_ordinary(part)) for part in _parts(text))


def encoding_name(model: str) -> str:
    """Name the encoding of a model: OpenAI's own where the tables are on disk, else the estimate's."""
    try:
        name = tiktoken.encoding_name_for_model(model.rpartition("/")[2])
    except KeyError:
        return _ESTIMATE
    # `o200k_harmony` differs in special tokens only, which are not counted.
    return name if name in _ENCODINGS else _ESTIMATE


def tables_folder() -> Path:
    """Find the tables in LiteLLM's package; finding a top-level package does not import it.

    Raises:
        FileNotFoundError: LiteLLM is not installed.
    """
    spec = find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("Counting tokens needs the package litellm, which carries the tokenizers' tables.")
    return Path(spec.submodule_search_locations[0]) / "litellm_core_utils" / "tokenizers"


def _parts(text: str) -> Iterator[str]:
    """Cut a text within runs of blanks that are too long for tiktoken."""
    start = 0
    for run in _BLANKS.finditer(text) if len(text) > _MOST_BLANKS else ():
        for end in range(run.start() + _MOST_BLANKS, run.end(), _MOST_BLANKS):
            yield text[start:end]
            start = end
    yield text[start:]


def _load(name: str, folder: Path) -> tiktoken.Encoding:
    """Build an encoding as tiktoken defines it, its table read from a folder.

    tiktoken takes the folder from the environment, and downloads what is not there. Both would hold for the whole
    process, so its definition is run with another reader instead: its globals with one name replaced.
    """
    definitions = import_module("tiktoken_ext.openai_public")

    def read_table(url: str, expected_hash: str) -> dict[bytes, int]:
        # tiktoken's cache: a file is named by the SHA-1 of the address it was loaded from.
        table = (folder / hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()).read_bytes()
        if hashlib.sha256(table).hexdigest() != expected_hash:
            raise FileNotFoundError(
                f"The tokenizer table of {name} in the package litellm is damaged; install it anew."
            )
        return {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, table.splitlines())}

    written = getattr(definitions, name)
    define = FunctionType(written.__code__, {**vars(definitions), "load_tiktoken_bpe": read_table})
    return tiktoken.Encoding(**define())
