import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from llmgateway.exchange import Call, Operation, Usage
from llmgateway.routing.estimate import estimate
from llmgateway.tokens import TokenCounter


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
