import json
from typing import Any

import pytest

from llmgateway.wire.questions import Question, question_of


def question(**fields: Any) -> Question:
    return question_of(json.dumps({"model": "auto", **fields}).encode())


def test_the_last_word_of_the_user_and_the_first_of_the_system_are_read() -> None:
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "last"},
        {"role": "tool", "content": "42"},
        {"role": "system", "content": "Be long."},
    ]

    assert question(messages=messages) == Question("Be brief.", "last")


def test_of_parts_only_the_texts_are_read() -> None:
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "text", "text": 3},
    ]

    assert question(messages=[{"role": "user", "content": [*parts, {"type": "text", "text": "b"}]}]).asked == "a\nb"


@pytest.mark.parametrize(
    ("prompt", "asked"), [("hi", "hi"), (["one", "two"], "one"), ([], ""), ([1, 2], ""), (None, "")]
)
def test_a_legacy_prompt_is_read_too(prompt: object, asked: str) -> None:
    assert question(prompt=prompt).asked == asked


@pytest.mark.parametrize(
    ("metadata", "task"),
    [({"task_type": "code"}, "code"), ({"task_type": 7}, 7), ({}, None), ("code", None), (None, None)],
)
def test_the_task_is_given_as_it_came(metadata: object, task: object) -> None:
    assert question(metadata=metadata, messages=[]).task_type == task


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"messages":3}',
        b'{"messages":[{"role":["user"],"content":"x"}]}',
        b'{"messages":[{"role":"user","content":7}]}',
        b'{"messages":[{"role":"user","content":[7]}]}',
        b'{"messages":[{"role":"user","content":null},{"role":"system"}]}',
        b'{"messages":[{"role":"user","content":"\\q"}]}',
        b'{"messages":' + b"[" * 100_000,
    ],
)
def test_nothing_is_read_of_what_cannot_be(body: bytes) -> None:
    assert question_of(body) == Question()
