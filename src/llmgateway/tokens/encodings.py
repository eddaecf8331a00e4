"""OpenAI's tokenizers: tiktoken with the tables that LiteLLM's package carries."""

import base64
import hashlib
import re
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType

import tiktoken

# Those whose tables are on disk; the two of every model since 2022.
ENCODINGS = ("cl100k_base", "o200k_base")
ESTIMATE = "o200k_base"
# Who may stand before the name of a model that is OpenAI's own.
_OPENAI = frozenset({"openai", "azure", "azure_ai", "github", "text-completion-openai"})
# tiktoken's regular expressions run out of stack, and panic, between 300,000 and a million blanks in a row.
_MOST_BLANKS = 100_000
_BLANKS = re.compile(r"\s++")


def encoding_name(model: str) -> str:
    """Name the encoding of a model: OpenAI's own where the tables are on disk, else the estimate's."""
    return _own(model) or ESTIMATE


def has_own_encoding(model: str) -> bool:
    """Whether it is one of OpenAI's models, counted with the table that it was made with."""
    before = model.rpartition("/")[0]
    return _own(model) is not None and (not before or not _OPENAI.isdisjoint(before.split("/")))


def tables_folder() -> Path:
    """Find the tables in LiteLLM's package; finding a top-level package does not import it.

    Raises:
        FileNotFoundError: LiteLLM is not installed.
    """
    spec = find_spec("litellm")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("Counting tokens needs the package litellm, which carries the tokenizers' tables.")
    return Path(spec.submodule_search_locations[0]) / "litellm_core_utils" / "tokenizers"


def count_with(encoding: tiktoken.Encoding, text: str) -> int:
    """Count a text. What looks like a special token is text here: nobody may end a prompt from within it."""
    return sum(len(encoding.encode_ordinary(part)) for part in _parts(text))


# All gateways of a process share them: each takes a third of a second to build, and 70 MB.
@lru_cache(maxsize=len(ENCODINGS))
def load_encoding(name: str, folder: Path) -> tiktoken.Encoding:
    """Build an encoding as tiktoken defines it, its table read from a folder.

    tiktoken takes the folder from the environment, and downloads what is not there. Both would hold for the whole
    process, so its definition is run with another reader instead: its globals with one name replaced.

    Raises:
        FileNotFoundError: The table is not there, or it is damaged.
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


def _own(model: str) -> str | None:
    try:
        name = tiktoken.encoding_name_for_model(model.rpartition("/")[2])
    except KeyError:
        return None
    if name == "o200k_harmony":
        # It differs in special tokens only, which are not counted.
        return ESTIMATE
    return name if name in ENCODINGS else None


def _parts(text: str) -> Iterator[str]:
    """Cut a text within runs of blanks that are too long for tiktoken."""
    start = seen = 0
    # A run that is too long covers one of these places: to look at every blank of a long text would hold up others.
    for place in range(_MOST_BLANKS, len(text), _MOST_BLANKS):
        run = _BLANKS.match(text, place) if place >= seen else None
        if run is not None:
            seen = run.end()
            before = text[place - _MOST_BLANKS : place]
            first = place - (len(before) - len(before.rstrip()))
            for end in range(first + _MOST_BLANKS, seen, _MOST_BLANKS):
                yield text[start:end]
                start = end
    yield text[start:]
