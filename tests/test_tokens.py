import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmgateway.tokens import TokenCounter, encoding_name, tables_folder


@pytest.fixture
def counter() -> TokenCounter:
    return TokenCounter()


@pytest.mark.parametrize(
    ("model", "text", "tokens"),
    [
        ("gpt-4o", "hello world", 2),
        ("openai/gpt-4o-mini", "hello world", 2),
        ("gpt-4", "tiktoken is great!", 6),
        ("gpt-4", "お誕生日おめでとう", 9),
        ("gpt-4o", "お誕生日おめでとう", 8),
        ("gpt-4o", "", 0),
        ("gpt-4", "<|endoftext|>", 7),
    ],
)
async def test_tokens_of_openai_models_are_counted_exactly(
    counter: TokenCounter, model: str, text: str, tokens: int
) -> None:
    assert await counter.count(text, model) == tokens
    assert await counter.count(text, model) == tokens


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "gemini/gemini-2.5-pro", "demo/echo", "text-davinci-003", ""])
async def test_tokens_of_other_models_are_estimated_with_o200k_base(counter: TokenCounter, model: str) -> None:
    assert encoding_name(model) == "o200k_base"
    assert await counter.count("hello world", model) == 2


def test_counting_never_asks_the_network_nor_imports_litellm(tmp_path: Path) -> None:
    program = """
import asyncio, socket, sys
def refuse(*_): raise AssertionError("the network was asked")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from llmgateway.tokens import TokenCounter
print(asyncio.run(TokenCounter().count("hello world", "gpt-4o")), "litellm" in sys.modules)
"""
    # An empty cache: a tokenizer that is not read from the package would have to be downloaded.
    environ = {"TIKTOKEN_CACHE_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}

    done = subprocess.run(  # noqa: S603  this very program, in a process without what this one has imported
        [sys.executable, "-c", program], capture_output=True, text=True, env=environ, check=False
    )

    assert (done.stdout, done.stderr) == ("2 False\n", "")
    assert list(tmp_path.iterdir()) == []


async def test_pitfall_067_other_work_goes_on_while_a_long_text_is_counted(counter: TokenCounter) -> None:
    await counter.count("loads the table", "gpt-4o")
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - before)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        assert await counter.count("word " * 400_000, "gpt-4o") == 400_001
        watching.cancel()

    assert longest < 0.2


@pytest.mark.parametrize("text", [" " * 1_000_000, "a" + "\t" * 700_000 + "b", "x" * 500_000])
async def test_a_text_that_tiktoken_panics_on_is_counted_all_the_same(counter: TokenCounter, text: str) -> None:
    assert 0 < await counter.count(text, "gpt-4o") < len(text)


async def test_a_table_that_is_damaged_is_named(tmp_path: Path) -> None:
    for table in tables_folder().iterdir():
        (tmp_path / table.name).write_bytes(b"aGVsbG8= 0\n")

    with pytest.raises(FileNotFoundError, match=r"o200k_base .* damaged"):
        await TokenCounter(tmp_path).count("hello", "gpt-4o")


async def test_many_first_counts_load_the_table_once_and_agree(counter: TokenCounter) -> None:
    counts = await asyncio.gather(*(counter.count("hello world", "gpt-4o") for _ in range(8)))

    assert counts == [2] * 8


def test_without_litellm_the_reader_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litellm", None)

    with pytest.raises(FileNotFoundError, match="needs the package litellm"):
        tables_folder()
