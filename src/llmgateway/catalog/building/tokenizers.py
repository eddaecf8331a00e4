"""What a catalog may name as a tokenizer: one of tiktoken's encodings, or a file within the catalog's folder."""

from pathlib import Path, PurePath

from llmgateway.catalog.check import nearest


def located(tokenizer: str, folder: Path) -> str:
    """Give the path of a tokenizer's file, or the name of an encoding as it is."""
    return str(folder / tokenizer) if _is_file(tokenizer) else tokenizer


def name_fault(tokenizer: str) -> str | None:
    """Say what is wrong with what somebody wrote, without a look at any file; `None` when nothing is."""
    if not _is_file(tokenizer):
        from llmgateway.tokens.encodings import ENCODINGS  # noqa: PLC0415  tiktoken, for the few who name one

        if tokenizer in ENCODINGS:
            return None
        near = nearest(tokenizer, ENCODINGS)
        return f"there is no encoding {tokenizer!r}; the nearest is {near!r}, or name a tokenizer.json by its path"
    path = PurePath(tokenizer)
    # What is written over the network must not choose any file of the machine.
    if path.is_absolute() or ".." in path.parts or "\\" in tokenizer or "\0" in tokenizer:
        return "must be a path within the catalog's folder, such as `tokenizers/llama.json`"
    return None


def fault(tokenizer: str, folder: Path) -> str | None:
    """Say why it cannot be used, also when its file cannot be read; `None` when it can. Reads the file: any thread."""
    if (wrong := name_fault(tokenizer)) is not None or not _is_file(tokenizer):
        return wrong
    from llmgateway.tokens.files import tokenizer_fault  # noqa: PLC0415  tiktoken, for the few who name one

    return tokenizer_fault(str(folder / tokenizer))


def _is_file(tokenizer: str) -> bool:
    return "/" in tokenizer or "\\" in tokenizer or tokenizer.endswith(".json")
