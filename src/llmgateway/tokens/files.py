"""Hugging Face's `tokenizer.json`, read from disk: the one module that imports `tokenizers`, lazily.

A file is opened and nothing else: only `from_pretrained` would ask the network, and it is never called.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
from msgspec import Struct
from structlog.typing import FilteringBoundLogger

from llmgateway.tokens.encodings import ENCODINGS

Count = Callable[[str], int]

# The library keeps some hundred bytes for each token: of a longer text one part after the other is counted.
_PART_CHARS = 100_000
# Between two words, before the blank: there no tokenizer that cuts at words makes one token of both.
_BETWEEN_WORDS = re.compile(r"(?<=\S) (?=\S)")
# Shows at once whether a vocabulary lacks what stands for unknown characters.
_TRIAL = "Hello wörld 1 ☃\n"
_MOST_BYTES = 100_000_000
# Each takes some 20 to 150 MB once it is loaded.
_MOST_FILES = 4
_LFS = b"version https://git-lfs"


class _File(Struct):
    """What every `tokenizer.json` has; its other fields are the library's to read."""

    model: dict[str, Any]


_FILE = msgspec.json.Decoder(_File)


class _Loaded(Struct, frozen=True):
    """A file as it was when it was read; `count` is `None` when it cannot be used."""

    stamp: tuple[int, int]
    count: Count | None


class TokenizerFiles:
    """Keeps the tokenizers that were used last, for any thread; one whose file changes is loaded anew.

    Args:
        logger: Is told, once, of a file that cannot be used.
    """

    def __init__(self, logger: FilteringBoundLogger | None = None) -> None:
        self._logger = logger
        self._kept: OrderedDict[Path, _Loaded] = OrderedDict()
        self._touching = Lock()
        self._loading = Lock()

    def count(self, path: Path) -> Count | None:
        """Give what counts with a file; `None` when it cannot be used. Takes up to a second where it must load."""
        stamp = _stamp(path)
        loaded = self._known(path, stamp)
        if loaded is None:
            # Whoever counts with others need not wait for it, so it is not the lock that they take.
            with self._loading:
                loaded = self._known(path, stamp) or self._keep(path, _Loaded(stamp, self._load(path)))
        return loaded.count

    def loaded(self) -> frozenset[str]:
        """Name the paths of those that are in memory now and can be used."""
        with self._touching:
            return frozenset(str(path) for path, loaded in self._kept.items() if loaded.count is not None)

    def _known(self, path: Path, stamp: tuple[int, int]) -> _Loaded | None:
        with self._touching:
            loaded = self._kept.get(path)
            if loaded is None or loaded.stamp != stamp:
                return None
            self._kept.move_to_end(path)
            return loaded

    def _keep(self, path: Path, loaded: _Loaded) -> _Loaded:
        with self._touching:
            self._kept[path] = loaded
            self._kept.move_to_end(path)
            while len(self._kept) > _MOST_FILES:
                self._kept.popitem(last=False)
        return loaded

    def _load(self, path: Path) -> Count | None:
        try:
            return load_file(path)
        except ValueError as fault:
            if self._logger is not None:
                self._logger.warning("tokenizer_unusable", reason=str(fault), instead="an estimate")
            return None


def tokenizer_fault(tokenizer: str) -> str | None:
    """Say what is wrong with a deployment's `tokenizer`, in words for whoever wrote it; `None` is nothing.

    Looks whether the file is there and has the shape of one; that takes some milliseconds, and reads no vocabulary.

    Args:
        tokenizer: The path of a file, or the name of one of tiktoken's encodings.
    """
    if tokenizer in ENCODINGS:
        return None
    path = Path(tokenizer)
    try:
        return _place_fault(path) or _shape_fault(path.name, path.read_bytes())
    except OSError as fault:
        return f"`{path.name}` cannot be read ({fault.strerror}): make it readable for the gateway"


def load_file(path: Path) -> Count:
    """Load a tokenizer and give what counts with it, in any thread.

    Raises:
        ValueError: It cannot be used; the message says why.
    """
    fault = tokenizer_fault(str(path))
    if fault is not None:
        raise ValueError(fault)
    from tokenizers import Tokenizer  # noqa: PLC0415  an eighth of a second, and most gateways have no such file

    try:
        found = Tokenizer.from_file(str(path))
        # They would make all counts those of the longest training text.
        found.no_truncation()
        found.no_padding()

        def count(text: str) -> int:
            # `encode` would hold the interpreter's lock all the while; a batch of one lets go of it, and is faster.
            return sum(
                len(found.encode_batch_fast([part], add_special_tokens=False)[0]) for part in _parts(_whole(text))
            )

        count(_TRIAL)
    except Exception as broken:  # the library raises nothing more exact
        raise ValueError(f"`{path.name}` cannot be used: {broken}") from broken
    return count


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _place_fault(path: Path) -> str | None:
    if path.is_dir():
        return f"`{path.name}` is a folder: give the path of the tokenizer.json in it"
    if not path.is_file():
        known = " or ".join(ENCODINGS)
        return f"there is no file `{path.name}`: give the path of a Hugging Face tokenizer.json, or {known}"
    if path.stat().st_size > _MOST_BYTES:
        return f"`{path.name}` is larger than {_MOST_BYTES // 1_000_000} MB, as no tokenizer.json is"
    return None


def _shape_fault(name: str, content: bytes) -> str | None:
    if content.startswith(_LFS):
        return f"`{name}` only points to the file in Git LFS: fetch it with `git lfs pull`"
    try:
        vocabulary = _FILE.decode(content).model.get("vocab")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        return f"`{name}` is no Hugging Face tokenizer.json: {fault}"
    if not vocabulary:
        return f"`{name}` is no Hugging Face tokenizer.json: its `model` has no `vocab`"
    return None


def _whole(text: str) -> str:
    """Give a text without halves of letters, which JSON may hold and the library refuses."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _parts(text: str) -> Iterator[str]:
    """Cut a long text between words; where there are none, anywhere."""
    start = 0
    while len(text) - start > _PART_CHARS:
        cut = _BETWEEN_WORDS.search(text, start + _PART_CHARS - 1000, start + _PART_CHARS)
        end = start + _PART_CHARS if cut is None else cut.start()
        yield text[start:end]
        start = end
    yield text[start:]
