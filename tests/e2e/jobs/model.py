"""A model that makes a text of each part of a document, goes on with one that broke off, and knows who asked."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from tests.upstreams.answers import Answer, words
from tests.upstreams.openai_wire import DONE, OpenAIWire, event, usage_of
from tests.upstreams.step import Request, Step, json_step, stream_step

# Prompts that say where what stands, so that the model can tell.
PROMPTS = {
    "system_prompt": "Minutes.",
    "user_prompt": "Before:\n{{previous}}\nPart:\n{{document}}",
    "reduce_prompt": "All:\n{{document}}",
}
_LINE = re.compile(r"Line (\d+) of (\S+):")
_ITEM = re.compile(r"^- (\S+) .*$", re.MULTILINE)
_KEY = "sk-upstream"
_HEAD = {"id": "chatcmpl-1", "created": 1_790_000_000, "model": "gpt-4o"}


def document(name: str, lines: int = 15) -> str:
    """Write a document of which each line is a turn."""
    return "\n\n".join(f"Line {number} of {name}: we decided something." for number in range(1, lines + 1))


@dataclass(frozen=True, slots=True)
class Called:
    """One call.

    Args:
        text: The whole answer, also where only its rest was asked for.
        rest: What was asked for of it.
        worker: Whose key came with it.
    """

    text: str
    rest: str
    worker: str

    @property
    def name(self) -> str:
        """Whose document it was about."""
        found = _ITEM.search(self.text)
        return found[1] if found else ""


class Model:
    """OpenAI's wire. Every text is one that nothing else than the same messages gives.

    Args:
        delay_s: Before each answer.
        pause_s: Between the words of a streamed one.
        sentences: How long an answer is.
    """

    base_path = "/v1"

    def __init__(self, *, delay_s: float = 0.0, pause_s: float = 0.0, sentences: int = 1) -> None:
        self.delay_s = delay_s
        self.pause_s = pause_s
        self.sentences = sentences
        self.calls: list[Called] = []
        self._wire = OpenAIWire(_KEY)

    def calls_of(self, text: str) -> int:
        """Count the calls for an answer."""
        return sum(called.text == text for called in self.calls)

    def of(self, name: str) -> list[Called]:
        """Give the calls about a document, in their order."""
        return [called for called in self.calls if called.name == name]

    def answer(self, request: Request) -> Step:
        messages: list[Mapping[str, Any]] = request.json["messages"]
        users = [str(message["content"]) for message in messages if message["role"] == "user"]
        text = self._text(users[0])
        rest = text
        if messages[-2]["role"] == "assistant":
            shown = str(messages[-2]["content"])
            assert shown in text, (shown, text)
            rest = text[text.index(shown) + len(shown) :]
        self.calls.append(Called(text, rest, request.bearer or ""))
        answer = Answer(rest, len(users[0].split()), len(words(rest)))
        step = _streamed(answer).paced(self.pause_s) if request.json.get("stream") else _whole(answer)
        return step.delayed(self.delay_s)

    def error(self, status: int, message: str, *, code: str | None = None, retry_after: str | None = None) -> Step:
        return self._wire.error(status, message, code=code, retry_after=retry_after)

    def too_long(self) -> Step:
        return self._wire.too_long()

    def _text(self, asked: str) -> str:
        """Answer with what was asked, so short that nobody can tell it from nothing else but the same question."""
        before, _, part = asked.partition("\nPart:\n")
        items = _ITEM.findall(asked) if not part else []
        if items:
            name, last = items[0], f"all {len(items)}"
        else:
            found = _LINE.findall(part)
            name, last = found[0][1], " and ".join(number for number, _ in found)
        digest = sha256(f"{before}\n{part}".replace(name, "").encode()).hexdigest()[:8]
        more = " ".join(f"Sentence {number} of {digest}." for number in range(1, self.sentences))
        return f"- {name} {last} is {digest}. {more}".rstrip()


def _whole(answer: Answer) -> Step:
    message = {"role": "assistant", "content": answer.text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json_step({**_HEAD, "object": "chat.completion", "choices": [choice], "usage": usage_of(answer)})


def _streamed(answer: Answer) -> Step:
    head = {**_HEAD, "object": "chat.completion.chunk"}
    deltas = [({"content": piece}, None) for piece in answer.pieces]
    choices = [
        {"index": 0, "delta": delta, "finish_reason": reason}
        for delta, reason in [({"role": "assistant", "content": ""}, None), *deltas, ({}, "stop")]
    ]
    usage = event({**head, "choices": [], "usage": usage_of(answer)})
    return stream_step([*(event({**head, "choices": [choice]}) for choice in choices), usage, DONE])
