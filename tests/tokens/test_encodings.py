import sys
from pathlib import Path

import pytest
import tiktoken

from llmgateway.tokens.encodings import count_with, encoding_name, has_own_encoding, load_encoding, tables_folder


@pytest.fixture(scope="module")
def o200k() -> tiktoken.Encoding:
    return load_encoding("o200k_base", tables_folder())


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "gemini/gemini-2.5-pro", "demo/echo", "text-davinci-003", ""])
def test_tokens_of_other_models_are_estimated_with_o200k_base(model: str) -> None:
    assert encoding_name(model) == "o200k_base"
    assert not has_own_encoding(model)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o", "o200k_base"),
        ("azure/eu/gpt-4", "cl100k_base"),
        ("openrouter/openai/gpt-5-mini", "o200k_base"),
        ("gpt-oss-120b", "o200k_base"),
        ("text-embedding-3-small", "cl100k_base"),
    ],
)
def test_openais_models_have_their_own_wherever_they_run(model: str, name: str) -> None:
    assert encoding_name(model) == name
    assert has_own_encoding(model)


def test_a_model_of_somebody_else_with_a_name_like_openais_is_not_openais() -> None:
    assert not has_own_encoding("somebody/o1-open")


@pytest.mark.parametrize("text", [" " * 1_000_000, "a" + "\t" * 700_000 + "b", "x" * 500_000])
def test_a_text_that_tiktoken_panics_on_is_counted_all_the_same(o200k: tiktoken.Encoding, text: str) -> None:
    assert 0 < count_with(o200k, text) < len(text)


def test_what_looks_like_a_special_token_is_text(o200k: tiktoken.Encoding) -> None:
    assert count_with(o200k, "<|endoftext|>") == 7


def test_a_table_that_is_damaged_is_named(tmp_path: Path) -> None:
    for table in tables_folder().iterdir():
        (tmp_path / table.name).write_bytes(b"aGVsbG8= 0\n")

    with pytest.raises(FileNotFoundError, match=r"o200k_base .* damaged"):
        load_encoding("o200k_base", tmp_path)


def test_without_litellm_the_reader_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litellm", None)

    with pytest.raises(FileNotFoundError, match="needs the package litellm"):
        tables_folder()
