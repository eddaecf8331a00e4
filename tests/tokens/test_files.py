import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import structlog
from structlog.testing import CapturingLogger
from structlog.typing import FilteringBoundLogger
from tokenizers import Tokenizer

from llmgateway.tokens.files import TokenizerFiles, load_file, tokenizer_fault
from tests.tokens.trained import LINES, TEXTS, train_bpe, train_words


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokenizer.json"


@pytest.mark.parametrize("train", [train_bpe, train_words])
def test_texts_are_counted_as_the_library_does(file: Path, train: Callable[[Path], Tokenizer]) -> None:
    made = train(file)
    count = load_file(file)

    for text in TEXTS:
        assert count(text) == len(made.encode(text, add_special_tokens=False).ids)


def test_a_file_that_cuts_or_fills_texts_for_training_counts_all_of_them(file: Path) -> None:
    made = train_bpe(file, max_length=4)
    made.no_truncation()
    made.no_padding()

    count = load_file(file)

    assert count("a") == 1
    assert count(LINES[0]) == len(made.encode(LINES[0]).ids) > 4


def test_a_long_text_is_counted_part_by_part_and_alike(file: Path) -> None:
    made = train_bpe(file)
    text = " ".join(LINES * 3000)

    assert len(text) > 300_000
    assert load_file(file)(text) == len(made.encode(text).ids)


def test_a_long_text_without_a_blank_is_cut_anywhere(file: Path) -> None:
    train_bpe(file)

    assert 200_000 <= load_file(file)("好" * 250_000) <= 750_000


def test_half_a_letter_is_counted_as_a_question_mark(file: Path) -> None:
    train_bpe(file)

    assert load_file(file)("\ud83d") == 1


@pytest.mark.parametrize("name", ["o200k_base", "cl100k_base"])
def test_an_encoding_of_tiktokens_is_no_fault(name: str) -> None:
    assert tokenizer_fault(name) is None


def test_a_tokenizer_that_is_well_has_no_fault(file: Path) -> None:
    train_words(file)

    assert tokenizer_fault(str(file)) is None


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "`tokenizer.json` is no Hugging Face tokenizer.json: "),
        (b'{"model": {"vocab": ', "is no Hugging Face tokenizer.json: "),
        (b"\xff\xfe", "is no Hugging Face tokenizer.json: "),
        (b"[]", "is no Hugging Face tokenizer.json: "),
        (b"[" * 100_000, "is no Hugging Face tokenizer.json: "),
        (b'{"tokenizer_class": "LlamaTokenizer"}', "missing required field `model`"),
        (b'{"model": {"type": "BPE"}}', "its `model` has no `vocab`"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "fetch it with `git lfs pull`"),
    ],
)
def test_a_file_that_is_something_else_is_said_to_be(file: Path, content: bytes, fault: str) -> None:
    file.write_bytes(content)

    assert fault in (tokenizer_fault(str(file)) or "")
    with pytest.raises(ValueError, match="tokenizer"):
        load_file(file)


def test_a_path_without_a_file_is_told_with_what_would_be_right(tmp_path: Path) -> None:
    missing = tokenizer_fault(str(tmp_path / "tokenizer.json"))

    assert missing == (
        "there is no file `tokenizer.json`: "
        "give the path of a Hugging Face tokenizer.json, or cl100k_base or o200k_base"
    )
    assert "is a folder: give the path of the tokenizer.json in it" in (tokenizer_fault(str(tmp_path)) or "")


def test_a_file_that_is_too_large_or_cannot_be_read_is_told(file: Path) -> None:
    with file.open("wb") as written:
        written.truncate(100_000_001)

    assert "is larger than 100 MB" in (tokenizer_fault(str(file)) or "")
    assert "cannot be read (File name too long)" in (tokenizer_fault("x" * 300) or "")


def test_what_waits_for_a_writer_is_not_opened(file: Path) -> None:
    os.mkfifo(file)

    assert "there is no file" in (tokenizer_fault(str(file)) or "")


def test_a_file_of_the_right_shape_that_cannot_count_is_found_when_it_is_loaded(file: Path) -> None:
    unknown = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "[UNK]"}
    file.write_text(json.dumps({"version": "1.0", "added_tokens": [], "model": unknown}))

    assert tokenizer_fault(str(file)) is None
    with pytest.raises(ValueError, match=r"`tokenizer.json` cannot be used: .*UNK"):
        load_file(file)


def test_of_a_file_that_cannot_be_used_the_log_tells_once(file: Path) -> None:
    file.write_text("{}")
    heard = CapturingLogger()
    logger: FilteringBoundLogger = structlog.wrap_logger(heard, processors=[])
    files = TokenizerFiles(logger)

    assert [files.count(file) for _ in range(3)] == [None] * 3
    (call,) = heard.calls
    assert call.method_name == "warning"
    assert call.kwargs["event"] == "tokenizer_unusable"
    assert "`model`" in call.kwargs["reason"]


def test_a_file_that_was_mended_is_read_anew(file: Path) -> None:
    files = TokenizerFiles()
    file.write_text("{}")
    assert files.count(file) is None

    train_words(file)

    count = files.count(file)
    assert count is not None
    assert count("quick fox") == 2
    assert files.count(file) is count


def test_only_those_that_were_used_last_are_kept(tmp_path: Path) -> None:
    files = TokenizerFiles()
    paths = [tmp_path / f"{place}.json" for place in range(5)]
    for path in paths:
        train_words(path)
    first = files.count(paths[0])
    second = files.count(paths[1])
    for path in (*paths[2:4], paths[0], paths[4]):
        files.count(path)

    assert files.count(paths[0]) is first
    assert files.count(paths[1]) is not second


def test_many_threads_load_a_file_once_and_agree(file: Path) -> None:
    train_bpe(file)
    files = TokenizerFiles()

    def counted(_: int) -> tuple[object, int]:
        count = files.count(file)
        assert count is not None
        return count, count(LINES[0])

    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(counted, range(64)))

    assert len(found) == 1
