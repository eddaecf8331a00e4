"""An answer on its way out: what each middleware does to it, in one ASGI `send`.

A message passes one frame so, and not one for each that adds a header or looks at the status.
"""

from collections.abc import Awaitable, Callable, Sequence

from starlette.types import Message, Send

from llmgateway.exchange import Exchange, Header
from llmgateway.headers import read_lines

# A message that is a whole answer, in JSON or all of a stream: what a start and a body are otherwise, but that its
# headers are `lines` as they are written, all but those of the server. Only our own server knows it.
WHOLE = "http.response.whole"
# Sends an answer's last message by the `send` that it is given.
SendLast = Callable[[Exchange, Send, Message], Awaitable[None]]


class Outgoing:
    """Made by the outermost middleware, and found by those within: as their `send`, if nobody put anything around it.

    Attributes:
        takes_whole: Whether a message may be a whole answer.
        begun: Whether anything has gone out.
        lines: Headers that go out with the answer, whatever it is.
        whole_lines: What stands before them in a whole answer.
        fitting: Says what headers stand before them in any other, which has these; `None` is none.
        exchange: Is told the status; `None` is nobody.
        last: Sends the last message; `None` is like all others.
    """

    __slots__ = ("_send", "begun", "exchange", "fitting", "last", "lines", "takes_whole", "whole_lines")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.takes_whole = False
        self.begun = False
        self.lines = self.whole_lines = b""
        self.fitting: Callable[[Sequence[Header]], Sequence[Header]] | None = None
        self.exchange: Exchange | None = None
        self.last: SendLast | None = None

    def __call__(self, message: Message) -> Awaitable[None]:
        """Send a message."""
        self.begun = True
        kind = message["type"]
        if kind != "http.response.body":
            if self.exchange is not None:
                self.exchange.status = message["status"]
            if kind == "http.response.start":
                headers = message["headers"]
                fitting = () if self.fitting is None else self.fitting(headers)
                message["headers"] = [*headers, *fitting, *read_lines(self.lines)]
                return self._send(message)
            message["lines"] += self.whole_lines + self.lines
        if self.last is not None and self.exchange is not None and not message.get("more_body", False):
            return self.last(self.exchange, self._send, message)
        return self._send(message)
