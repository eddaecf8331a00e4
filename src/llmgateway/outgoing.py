"""An answer on its way out: what each middleware does to it, in one ASGI `send`.

A message passes one frame so, and not one for each that adds a header or looks at the status.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Self

from starlette.types import Message, Send

from llmgateway.exchange import Exchange, Header

# A message that is a whole answer: what a start and a body are otherwise. Only our own server knows it.
WHOLE = "http.response.whole"
# Sends an answer's last message by the `send` that it is given.
SendLast = Callable[[Exchange, Send, Message], Awaitable[None]]


class Outgoing:
    """Made by the outermost middleware, and found by those within.

    Attributes:
        takes_whole: Whether a message may be a whole answer.
        begun: Whether anything has gone out.
        headers: Go out with the answer, whatever it is.
        fitting: Says what headers go out besides with one that has these; `None` is none.
        exchange: Is told the status; `None` is nobody.
        last: Sends the last message; `None` is like all others.
    """

    __slots__ = ("_send", "begun", "exchange", "fitting", "headers", "last", "takes_whole")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.takes_whole = False
        self.begun = False
        self.headers: Sequence[Header] = ()
        self.fitting: Callable[[Sequence[Header]], Sequence[Header]] | None = None
        self.exchange: Exchange | None = None
        self.last: SendLast | None = None

    @classmethod
    def of(cls, send: Send) -> Self:
        """Find it, or make another around what somebody has put around it."""
        return send if isinstance(send, cls) else cls(send)

    def __call__(self, message: Message) -> Awaitable[None]:
        """Send a message."""
        self.begun = True
        kind = message["type"]
        if kind != "http.response.body":
            exchange, fitting, headers = self.exchange, self.fitting, message["headers"]
            if exchange is not None:
                exchange.status = message["status"]
            if fitting is not None:
                message["headers"] = [*headers, *fitting(headers), *self.headers]
            elif self.headers:
                message["headers"] = [*headers, *self.headers]
            if kind == "http.response.start":
                return self._send(message)
        if self.last is not None and self.exchange is not None and not message.get("more_body", False):
            return self.last(self.exchange, self._send, message)
        return self._send(message)
