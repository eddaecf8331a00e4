import asyncio
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NoReturn

import pytest
from tokenizers import Tokenizer

from llmgateway.tokens import Counted, TokenCounter
from llmgateway.tokens.encodings import tables_folder
from tests.tokens.trained import LINES, train_bpe

CLAUDE = "claude-sonnet-4-5"


@pytest.fixture(scope="module")
def counter() -> TokenCounter:
    """One for all: loading a table takes a quarter of a second."""
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
    assert counter.counted([text, text], model).tokens == 2 * tokens
    assert counter.counted([text], model).exact


@pytest.mark.parametrize("model", ["gemini/gemini-2.5-pro", "demo/echo", "text-davinci-003", "somebody/o1-open", ""])
async def test_tokens_of_other_models_are_estimated_with_o200k_base(counter: TokenCounter, model: str) -> None:
    text = "Съешь ещё этих мягких французских булок"

    assert await counter.count(text, model) == await counter.count(text, "gpt-4o")
    assert counter.counted([text], model).tokenizer == "estimate"
    assert not counter.counted([text], model).exact


async def test_tokens_of_claude_are_estimated_with_what_anthropic_published(counter: TokenCounter) -> None:
    text = "नमस्ते, आपसे मिलकर अच्छा लगा!"
    published = Tokenizer.from_file(str(tables_folder() / "anthropic_tokenizer.json"))
    tokens = len(published.encode(text).ids)

    assert await counter.count(text, f"bedrock/anthropic.{CLAUDE}") == tokens
    assert counter.counted([text], CLAUDE) == Counted(tokens, "estimate", exact=False)
    # Claude takes more than twice as many for Hindi as OpenAI's models do.
    assert tokens > 2 * await counter.count(text, "gpt-4o")


async def test_a_deployment_that_names_its_tokenizer_is_counted_with_it(counter: TokenCounter, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokens = len(train_bpe(path).encode(LINES[1]).ids)

    assert await counter.count(LINES[1], "qwen3", str(path)) == tokens
    assert counter.counted(LINES[1:2], "qwen3", str(path)) == Counted(tokens, "tokenizer.json", exact=True)


def test_a_deployment_may_name_an_encoding(counter: TokenCounter) -> None:
    text = "お誕生日おめでとう"

    assert counter.counted([text], "mine", "cl100k_base") == Counted(9, "cl100k_base", exact=True)
    assert counter.counted([text], CLAUDE, "o200k_base") == Counted(8, "o200k_base", exact=True)


async def test_a_file_that_cannot_be_used_leaves_the_estimate(counter: TokenCounter, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{")

    assert counter.counted(["hello world"], "gpt-4o", str(path)) == Counted(2, "estimate", exact=False)
    assert await counter.count("hello world", "qwen3", str(path)) == 2


async def test_without_any_table_four_bytes_are_a_token(tmp_path: Path) -> None:
    counter = TokenCounter(tmp_path)

    assert counter.counted(["é" * 40, "abcd"], "gpt-4o") == Counted(21, "estimate", exact=False)
    assert counter.counted(["abcd"], CLAUDE) == Counted(1, "estimate", exact=False)
    with pytest.raises(FileNotFoundError):
        await counter.count("abcd", "gpt-4o")


def test_counting_never_asks_the_network_nor_imports_litellm(tmp_path: Path) -> None:
    program = """
import asyncio, os, socket, sys
def refuse(*_): raise AssertionError("the network was asked")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from llmgateway.tokens import TokenCounter
print("tokenizers" in sys.modules)
counter = TokenCounter()
print(asyncio.run(counter.count("hello world", "gpt-4o")), asyncio.run(counter.count("hello world", "claude-3")))
print([name for name in ("litellm", "huggingface_hub") if name in sys.modules])
if (child := os.fork()) == 0:
    os._exit(0 if counter.count_here("hello world", "claude-3") == 2 else 1)
print(os.waitpid(child, 0)[1])
"""
    # An empty cache: a tokenizer that is not read from the package would have to be downloaded.
    environ = {"TIKTOKEN_CACHE_DIR": str(tmp_path), "HF_HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}

    done = subprocess.run(  # noqa: S603  this very program, in a process without what this one has imported
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, env=environ, check=False
    )

    # Nothing is said of parallelism either, not even by a process that forks.
    assert (done.stdout, done.stderr) == ("False\n2 2\n[]\n0\n", "")
    assert list(tmp_path.iterdir()) == []


async def test_no_tokenizer_of_any_kind_asks_the_network(
    counter: TokenCounter, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError

    path = tmp_path / "tokenizer.json"
    train_bpe(path)
    monkeypatch.setattr(socket.socket, "connect", refuse)

    for model, tokenizer in (("gpt-4o", None), (CLAUDE, None), ("qwen3", str(path)), ("qwen3", "Qwen/Qwen3-32B")):
        assert await counter.count("hello world", model, tokenizer) > 0


async def test_pitfall_067_long_texts_are_counted_in_threads_of_the_counters_own(counter: TokenCounter) -> None:
    seen = [await counter.apart(threading.current_thread) for _ in range(8)]

    assert threading.current_thread() not in seen
    assert {thread.name.partition("_")[0] for thread in seen} == {"tokens"}
    assert len(set(seen)) <= 2


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


async def test_pitfall_067_a_tokenizer_of_hugging_face_lets_go_of_the_interpreter(counter: TokenCounter) -> None:
    await counter.count("loads the table", CLAUDE)

    async def watch() -> None:
        while True:  # noqa: ASYNC110  it takes every turn that it gets
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        all_s, loops_s = time.process_time(), time.thread_time()
        assert 200_000 <= await counter.count("word " * 200_000, CLAUDE) <= 200_050
        all_s, loops_s = time.process_time() - all_s, time.thread_time() - loops_s
        watching.cancel()

    # The processors' time, in which no other program has a part. It would be a tenth if the lock were held.
    assert loops_s > 0.3 * (all_s - loops_s)


async def test_many_first_counts_load_the_table_once_and_agree() -> None:
    counter = TokenCounter()

    counts = await asyncio.gather(*(counter.count("hello world", "gpt-4o") for _ in range(8)))

    assert counts == [2] * 8


async def test_counts_of_many_at_once_are_those_of_one_after_the_other(counter: TokenCounter, tmp_path: Path) -> None:
    path = str(tmp_path / "tokenizer.json")
    made = train_bpe(Path(path))
    texts = [line * 50 for line in LINES] * 5

    async with asyncio.TaskGroup() as group:
        ours = [group.create_task(counter.count(text, "mine", path)) for text in texts]
        theirs = [group.create_task(counter.count(text, "gpt-4o")) for text in texts]

    assert [task.result() for task in ours] == [len(made.encode(text).ids) for text in texts]
    assert [task.result() for task in theirs] == [counter.count_here(text, "gpt-4o") for text in texts]


def test_it_tells_what_is_in_memory(tmp_path: Path) -> None:
    counter, file = TokenCounter(), tmp_path / "tokenizer.json"
    train_bpe(file)

    assert counter.loaded() == frozenset()
    counter.count_here("a", "gpt-4o")
    counter.count_here("a", "ours", str(file))
    counter.count_here("a", "ours", str(tmp_path / "none.json"))
    assert counter.loaded() == {"o200k_base", str(file)}
