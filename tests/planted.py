"""Keys and prompts that no log line, answer, metric or span of the whole suite may hold (pitfalls 99 and 135).

The players' keys are in the catalogs of all tests, the clients send theirs, and each gateway's clients note the prompts
that they send. When a gateway of a test ends, all that came out of it is searched for them.
"""

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

# What the players take as proof, and what the fixtures' own clients send.
KEYS = (
    *("sk-upstream", "sk-openai-upstream", "sk-ant-upstream", "gsk-upstream", "mistral-upstream", "together-upstream"),
    *("tgp-upstream", "xai-upstream", "azure-upstream", "AIza-upstream", "co-upstream", "AKIDUPSTREAM"),
    *("bedrock-secret-upstream", "client-key", "planted-plain-key-0042", "planted-database-password"),
)
_MAKES_A_KEY = re.compile(r"/admin/keys(/[^/?]+/rotate)?$")
_PROOFS = ("authorization", "x-api-key", "api-key")
# Shorter prompts are words that a log line may well hold, such as `hello`.
_MIN_PROMPT_CHARS = 16
_LONGEST_READ_BYTES = 64_000
# Below these everything is a prompt or a document.
_TEXTS = frozenset(
    {"messages", "prompt", "input", "content", "instructions", "system_prompt", "user_prompt", "reduce_prompt"}
)
_MOST_KEPT_BYTES = 4_000_000


class LeakError(AssertionError):
    """A planted key or prompt came out."""


class Planted:
    """Watches the clients of one gateway, and searches what came out of it."""

    def __init__(self) -> None:
        self._keys: set[str] = set(KEYS)
        self._prompts: set[str] = set()
        self._answers = bytearray()

    def hooks(self) -> dict[str, list[Callable[[Any], Awaitable[None]]]]:
        """What an HTTP client calls with each request and response: for `event_hooks`."""
        return {"request": [self._asked], "response": [self._answered]}

    def check(self, **places: bytes | str) -> None:
        """Search the answers so far and these texts. Raises: LeakError."""
        for key in self._keys:
            if key.encode() in self._answers:
                raise LeakError(f"an answer holds the key {key!r}: {_around(bytes(self._answers), key)}")
        for place, content in places.items():
            text = content.encode() if isinstance(content, str) else content
            for word in self._keys | self._prompts:
                if word.encode() in text or json.dumps(word)[1:-1].encode() in text:
                    raise LeakError(f"{place} holds {word!r}: {_around(text, word)}")

    async def _asked(self, request: Any) -> None:
        for name in _PROOFS:
            proof = request.headers.get(name, "").removeprefix("Bearer ")
            if len(proof) >= len("client-key") and proof.isascii():
                self._keys.add(proof)
        body = getattr(request, "_content", b"")  # a body that is sent in pieces has none
        if 0 < len(body) <= _LONGEST_READ_BYTES:
            try:
                self._prompts |= set(_prompts_in(json.loads(body)))
            except (ValueError, RecursionError):  # some tests send what is no JSON
                return

    async def _answered(self, response: Any) -> None:
        self._keep(b"\n".join(name + b": " + value for name, value in response.headers.raw) + b"\n\n")
        if _MAKES_A_KEY.search(str(response.request.url)) and response.request.method == "POST":
            return  # the one answer that shows a key, once
        pieces = response.aiter_raw

        async def kept(*arguments: Any, **named: Any) -> Any:
            async for piece in pieces(*arguments, **named):
                self._keep(piece)
                yield piece

        response.aiter_raw = kept

    def _keep(self, content: bytes) -> None:
        if len(self._answers) < _MOST_KEPT_BYTES:
            self._answers += content


def _prompts_in(body: Any, *, within: bool = False) -> Iterator[str]:
    """Yield what a model is asked: all texts of the messages, prompts and documents."""
    match body:
        case dict():
            for name, value in body.items():
                yield from _prompts_in(value, within=within or name in _TEXTS)
        case list():
            for value in body:
                yield from _prompts_in(value, within=within)
        case str() if within and len(body) >= _MIN_PROMPT_CHARS and " " in body:
            yield body
        case _:
            return


def _around(text: bytes, word: str) -> str:
    at = max(0, text.find(word.encode()))
    return text[max(0, at - 200) : at + 200].decode(errors="replace")
