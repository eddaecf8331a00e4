import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from llmgateway.exchange import Call, Operation, Usage
from llmgateway.routing.estimate import PromptCount, counted_prompt, estimate
from llmgateway.tokens import TokenCounter
from tests.deployments import deployment
from tests.tokens.trained import train_bpe

HELLO = [{"role": "user", "content": "hello world"}]
FRAME_TOKENS = 4 + 3


@pytest.fixture(scope="module")
def counter() -> TokenCounter:
    return TokenCounter()


def call(operation: Operation = "chat", **fields: object) -> Call:
    return Call(operation, "chat", msgspec.json.encode(fields))


async def test_a_chat_is_counted_as_openai_does() -> None:
    asked = call(messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello world"}])

    usage = await estimate(asked, "hello world", TokenCounter(), "gpt-4o")

    # Three and the role for each message, three for the answer's start (OpenAI cookbook), and the words.
    assert usage == Usage((4 + 3) + (4 + 2) + 3, 2, estimated=True)


async def test_prompts_of_tokens_and_inputs_of_embeddings_are_counted() -> None:
    counter = TokenCounter()

    assert (await estimate(call("completion", prompt=[1, 2, 3]), "", counter, "gpt-4o")).prompt_tokens == 3
    assert (await estimate(call("embedding", input=["hello world"] * 2), "", counter, "gpt-4o")).prompt_tokens == 4


async def test_without_a_tokenizer_four_bytes_are_a_token(tmp_path: Path) -> None:
    asked = call(messages=[{"role": "user", "content": "x" * 400}])

    usage = await estimate(asked, "é" * 40, TokenCounter(tmp_path), "gpt-4o")

    assert usage == Usage(7 + 100, 20, estimated=True)


async def test_a_body_that_cannot_be_read_costs_nothing_but_the_answer() -> None:
    usage = await estimate(Call("chat", "chat", b"\xff{"), "hello world", TokenCounter(), "gpt-4o")

    assert usage == Usage(0, 2, estimated=True)


async def test_a_deployments_own_tokenizer_counts_question_and_answer(counter: TokenCounter, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokens = len(train_bpe(path).encode("hello world").ids)

    usage = await estimate(call(messages=HELLO), "hello world", counter, "qwen3", str(path))

    assert usage == Usage(FRAME_TOKENS + tokens, tokens, estimated=True)


async def test_a_prompt_is_counted_before_it_is_asked(counter: TokenCounter, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    tokens = len(train_bpe(path).encode("hello world").ids)
    asked = call(messages=HELLO)

    for made, count in (
        (deployment(model="gpt-4o"), PromptCount(FRAME_TOKENS + 2, "o200k_base", exact=True)),
        (deployment(model="gpt-4"), PromptCount(FRAME_TOKENS + 2, "cl100k_base", exact=True)),
        (deployment(model="mine", tokenizer="cl100k_base"), PromptCount(FRAME_TOKENS + 2, "cl100k_base", exact=True)),
        (deployment(model="gemini-2.5-pro"), PromptCount(FRAME_TOKENS + 2, "estimate", exact=False)),
        (deployment(model="claude-sonnet-4-5"), PromptCount(FRAME_TOKENS + 2, "estimate", exact=False)),
        (
            deployment(model="qwen3", tokenizer=str(path)),
            PromptCount(FRAME_TOKENS + tokens, "tokenizer.json of qwen3", exact=True),
        ),
        (
            deployment(model="qwen3", tokenizer=str(tmp_path / "gone.json")),
            PromptCount(FRAME_TOKENS + 2, "estimate", exact=False),
        ),
    ):
        assert await counted_prompt(asked, made, counter) == count


async def test_what_counts_by_a_rule_is_not_exact_whatever_the_tokenizer(counter: TokenCounter) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 40_000}}
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": {"type": "object"}}}
    seen = call(messages=[{"role": "user", "content": [*[{"type": "text", "text": "hello world"}], image]}])

    assert await counted_prompt(seen, deployment(), counter) == PromptCount(9 + 765, "o200k_base", exact=False)
    for further in ({"tools": [tool]}, {"response_format": schema}):
        counted = await counted_prompt(call(messages=HELLO, **further), deployment(), counter)
        assert not counted.exact
        assert 9 < counted.tokens < 9 + 20


async def test_counting_a_prompt_never_fails(tmp_path: Path) -> None:
    without_tables = TokenCounter(tmp_path)

    rough = await counted_prompt(call(messages=[{"role": "user", "content": "x" * 400}]), deployment(), without_tables)
    odd = await counted_prompt(Call("chat", "chat", b"\xff{"), deployment(), without_tables)

    assert rough == PromptCount(FRAME_TOKENS + 100, "estimate", exact=False)
    assert (odd.tokens, odd.exact) == (0, False)


@pytest.mark.alone
async def test_the_loop_is_free_while_a_long_answer_is_counted() -> None:
    counter = TokenCounter()
    await counter.count("loads the table", "gpt-4o")
    asked = call(messages=[{"role": "user", "content": "word " * 100_000}])
    steps_s: list[float] = []

    async def watch() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0)
            steps_s.append(time.perf_counter() - before)

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        usage = await estimate(asked, "word " * 100_000, counter, "gpt-4o")
        watching.cancel()

    assert usage.completion_tokens == 100_001
    # The interpreter changes threads every five milliseconds; what the loop does itself takes less than one.
    assert sorted(steps_s)[len(steps_s) // 2] < 0.001
