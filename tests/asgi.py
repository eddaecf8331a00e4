"""A server's side of ASGI in memory: for what a socket would add nothing to."""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from typing import Any

from starlette.types import Message, Scope
from typing_extensions import override

from llmgateway.exchange import Exchange


def scope_of(
    method: str = "POST",
    path: str = "/v1/chat/completions",
    headers: Mapping[str, str] | list[tuple[bytes, bytes]] | None = None,
    **more: object,
) -> Scope:
    """Make a request's scope, with its exchange."""
    given = headers or []
    pairs = given if isinstance(given, list) else [(k.encode(), v.encode("latin-1")) for k, v in given.items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": pairs}
    return {**scope, "exchange": Exchange(), **more}


def piece(body: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


GONE: Message = {"type": "http.disconnect"}


class Client:
    """Sends its messages one by one, is then silent until it leaves, and keeps what it is answered."""

    def __init__(self, *messages: Message) -> None:
        self._messages = deque(messages)
        self._left = asyncio.Event()
        self.asked = 0
        self.sent: list[Message] = []

    @property
    def unread(self) -> int:
        """How many of its messages nobody asked for."""
        return len(self._messages)

    def leave(self) -> None:
        self._left.set()

    async def receive(self) -> Message:
        self.asked += 1
        if self._messages:
            return self._messages.popleft()
        await self._left.wait()
        return GONE

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode("latin-1") for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def complete(self) -> bool:
        """Whether the answer has its end."""
        return any(message["type"] == "http.response.body" and not message.get("more_body") for message in self.sent)

    @property
    def error(self) -> dict[str, Any]:
        """The error of a whole answer, or of a stream's last event."""
        last = self.body.strip().rpartition(b"\n\n")[2].removeprefix(b"data: ")
        error: dict[str, Any] = json.loads(last)["error"]
        return error


class Stalling(Client):
    """Stops reading: as at a server, the message that fills the buffers goes, and the next one waits.

    Args:
        takes: How many messages fit.
    """

    def __init__(self, *messages: Message, takes: int) -> None:
        super().__init__(*messages)
        self._takes = takes
        self._reads = asyncio.Event()
        self.waiting = 0

    def read_on(self) -> None:
        self._reads.set()

    @override
    async def send(self, message: Message) -> None:
        if len(self.sent) >= self._takes:
            self.waiting += 1
            try:
                await self._reads.wait()
            finally:
                self.waiting -= 1
        await super().send(message)
