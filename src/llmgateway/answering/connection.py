"""One connection of a client: bytes become requests, which are answered one after the other."""

import asyncio
import logging
from collections import deque
from contextvars import copy_context
from typing import Any, cast
from urllib.parse import unquote

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, parse_url
from starlette.types import Scope
from typing_extensions import override
from uvicorn import Config
from uvicorn.protocols.utils import get_local_addr, get_remote_addr, is_ssl
from uvicorn.server import ServerState

from llmgateway.answering.head import Header
from llmgateway.answering.outlet import Outlet
from llmgateway.answering.repeated import Repeated
from llmgateway.answering.request import Request
from llmgateway.turn import Turn

# Above this, no more of a body is read until somebody takes what there is.
_HELD_BYTES = 64 * 1024
# Nor of more requests than this, until some of them are answered; one read may bring thousands.
_MOST_WAITING = 16
# Of a head, or of what is behind a body, without its end: what one read brings, and more than any client sends.
_MOST_HEAD_BYTES = 320 * 1024
# After so many heads that are not like the one before, no more are kept to compare with.
_MOST_UNLIKE = 8
# Fields behind a body are nobody's.
_NOWHERE: Any = deque(maxlen=0)
_ASGI = {"version": "3.0", "spec_version": "2.3"}
_REFUSED = b"Invalid HTTP request received."
_REFUSAL = (
    b"HTTP/1.1 400 Bad Request\r\n%%bcontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (len(_REFUSED), _REFUSED)
)

_log = logging.getLogger("uvicorn.error")


class Protocol(Outlet):
    """What uvicorn makes for each connection: it hands over its configuration, and what it knows of all connections."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if not config.loaded:
            config.load()
        # The application's own, if it puts off what is to happen before and after its answers are written.
        super().__init__(getattr(config.loaded_app, "turn", None) or Turn())
        self._config = config
        self._app_state = app_state
        # What serves requests alone, if the application says.
        self._app = getattr(config.loaded_app, "requests", config.loaded_app)
        self.server_state = server_state
        self.loop = _loop or asyncio.get_running_loop()
        self._parser: Any = self._new_parser()
        # What a send gives that need not be waited for.
        self.nothing: asyncio.Future[None] = self.loop.create_future()
        self.nothing.set_result(None)
        # Of the request that is being read.
        self._url = b""
        self._headers: list[Header] = []
        self._is_in_head = False
        self._head_bytes = 0
        # What the parser made of the last head.
        self._parsed: tuple[dict[str, Any], list[Header]] | None = None
        # The head of the request before, with all that is known of it, if the next bytes may be another one like it.
        self._repeated: Repeated | None = None
        self._unlike = 0
        # Of the body of a request that the parser has not seen.
        self._left_bytes = 0
        # The one that was read last, and those that wait until the one before is answered.
        self.newest: Request | None = None
        self._answering: Request | None = None
        self._waiting: deque[tuple[Request, Scope]] = deque()
        self.is_held = False
        # Since when nobody has asked anything, or a head has been coming; `None` while there is something to answer.
        self._idle_since: float | None = None
        self._idle_timer: asyncio.TimerHandle | None = None

    def _new_parser(self) -> HttpRequestParser:
        parser = HttpRequestParser(self)
        # What follows a request that is its connection's last must not spoil the answer to it.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's.
        self.transport = cast("asyncio.Transport", transport)
        self._context = copy_context()
        self._server = get_local_addr(self.transport)
        self._client = get_remote_addr(self.transport)
        self._scheme = "https" if is_ssl(self.transport) else "http"
        self.server_state.connections.add(self)  # type: ignore[arg-type]  # it names its own only
        self._rest()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.connections.discard(self)
        self._stop_timer()
        self._waiting.clear()
        self.lose()
        if self._answering is not None:
            self._answering.lose()
        if exc is None:
            self.transport.close()
        self._forget()

    def _forget(self) -> None:
        # Each leads back to this object: in circles, all would wait for the collector.
        self._parser = self.newest = self._answering = self._repeated = None

    @override
    def data_received(self, data: bytes) -> None:
        if self._left_bytes:
            data = self._take_rest(data)
            if not data:
                return
        newest, repeated = self.newest, self._repeated
        is_between = newest is not None and newest.is_whole and not self._is_in_head
        if repeated is not None and is_between:
            read = repeated.read(data)
            if read is not None:
                self._repeat(repeated, *read)
                return
            self._unlike += 1
        self._parse(data)
        parsed, self._parsed = self._parsed, None
        if parsed is not None:
            # What is kept is always the last that was parsed: the parser takes another one like it as it took that.
            self._repeated = self._kept(data, *parsed) if is_between else None

    def _parse(self, data: bytes) -> None:
        try:
            try:
                self._parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                self._pass_upgrade(upgrade.args[0], memoryview(data))
        except HttpParserError:
            self._refuse()
        else:
            if self._is_in_head or (self.newest is not None and not self.newest.is_whole):
                self._head_bytes += len(data)
                if self._head_bytes > _MOST_HEAD_BYTES:
                    self._refuse()

    def _kept(self, data: bytes, scope: dict[str, Any], headers: list[Header]) -> Repeated | None:
        """Give the head of a request that began with these bytes, if the client's next one may begin as it does."""
        request = self.newest
        if request is None or not request.keep_alive or self._unlike >= _MOST_UNLIKE:
            return None
        repeated = Repeated.of(data, len(request.body), scope, headers)
        self._unlike += repeated is None
        return repeated

    def _repeat(self, repeated: Repeated, length: bytes, body: bytes, left_bytes: int) -> None:
        """Take a request that the parser does not see: it stays where it is, between two of them."""
        self._idle_since, self._unlike = None, 0
        request = self._begin(repeated.scope, *repeated.headers_for(length), keep_alive=True)
        request.body = body
        self._left_bytes = left_bytes
        request.is_whole = not left_bytes
        # One that is whole and is being answered is soon taken, and what follows it waits.
        if len(body) > _HELD_BYTES and (left_bytes or request is not self._answering):
            self._hold()

    def _take_rest(self, data: bytes) -> bytes:
        """Take what is left of the body of such a request. Returns what comes after it."""
        piece, rest = data[: self._left_bytes], data[self._left_bytes :]
        self._left_bytes -= len(piece)
        self.on_body(piece)
        if not self._left_bytes:
            self.on_message_complete()
        return rest

    def _pass_upgrade(self, at: int, rest: memoryview) -> None:
        """Hand a WebSocket on. What else is asked for nobody speaks here: go on as if it were not."""
        while not self._opens_websocket():
            # The parser leaves the body, which would be read as the next request.
            head, self._parser = self._head(without=b"upgrade"), self._new_parser()
            self._parser.feed_data(head)
            rest = rest[at:]
            try:
                self._parser.feed_data(rest)
            except HttpParserUpgrade as upgrade:
                at = upgrade.args[0]
            else:
                return
        self._hand_on()

    def on_message_begin(self) -> None:
        """What the parser calls first of each request."""
        self._url = b""
        self._headers = []
        self._is_in_head = True
        self._head_bytes = 0
        self._idle_since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        """Take what came of the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Have the request answered, once those before it are. What is raised here is answered as a wrong request."""
        self._is_in_head, self._idle_since = False, None
        parser, headers = self._parser, self._headers
        method, version = parser.get_method(), parser.get_http_version()
        if method == b"CONNECT":
            raise RuntimeError("this is no tunnel")
        if parser.should_upgrade():
            if self._opens_websocket() and self._answering is not None:
                raise RuntimeError("an answer is under way on this connection")
            return
        self._headers = _NOWHERE
        url = parse_url(self._url)
        raw_path: bytes = url.path
        path = raw_path.decode("ascii")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self._server,
            "client": self._client,
            "scheme": self._scheme,
            "root_path": "",
            "method": method.decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": url.query or b"",
            # For what depends on nothing but the head's own bytes: the next request with the same ones has it as well.
            "of_head": {},
        }
        self._parsed = scope, headers
        self._begin(scope, headers, dict(headers), keep_alive=version != "1.0" and parser.should_keep_alive())

    def _begin(self, scope: Scope, headers: list[Header], named: dict[bytes, bytes], *, keep_alive: bool) -> Request:
        """Have a request answered, once those before it are."""
        self.newest = request = Request(self, scope["method"], scope["http_version"], named)
        request.keep_alive = keep_alive
        scope = dict(scope)
        scope["headers"], scope["named_headers"], scope["request"] = headers, named, request
        # Takes a stream's pieces past all that looks at messages.
        scope["piece"] = request.piece
        if self._answering is not None:
            self._waiting.append((request, scope))
            if len(self._waiting) >= _MOST_WAITING:
                self._hold()
        else:
            self._answer(request, scope)
        return request

    def _answer(self, request: Request, scope: Scope) -> None:
        self._answering = request
        # With a name: else one would be made up, with a number in it.
        request.task = asyncio.Task(request.run(self._app, scope), loop=self.loop, name="request")
        self.server_state.tasks.add(request.task)

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body, unless its request is answered already."""
        self._head_bytes = min(self._head_bytes, 0) - len(piece)  # so that what it came with is all that counts
        request = self.newest
        if request is None or request.is_over:
            return
        if not request.body:
            request.body = piece
        elif isinstance(request.body, bytearray):
            request.body += piece
        else:
            request.body = bytearray(request.body) + piece
        if len(request.body) > _HELD_BYTES:
            self._hold()
        if request.awaited is not None:
            request.awaited.set()

    def on_message_complete(self) -> None:
        """Note that the body has come to its end."""
        request = self.newest
        if request is not None:
            request.is_whole = True
            if request.awaited is not None:
                request.awaited.set()

    def answered(self, request: Request) -> None:
        """Go on to the next request; an answer has been written to its end."""
        self._answering = None
        request.body = b""
        if request.awaited is not None:
            request.awaited.set()
        self.server_state.total_requests += 1
        if not request.keep_alive:
            self.close()
        if self.transport.is_closing():
            return
        following = self._waiting.popleft() if self._waiting else None
        if self.is_held:
            self.read_on()
        if following is not None:
            # Not in the context of the request before.
            self._context.run(self._answer, *following)
        else:
            self._rest()

    def _rest(self) -> None:
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self._config.timeout_keep_alive, self._look_for_idleness)

    def _look_for_idleness(self) -> None:
        self._idle_timer = None
        if self._idle_since is None or self._answering is not None:  # the end of the answer starts it again
            return
        left_s = self._idle_since + self._config.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._idle_timer = self.loop.call_later(left_s, self._look_for_idleness)
        else:
            self.close()

    def _stop_timer(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def shutdown(self) -> None:
        """End the connection, now or with the answers that are under way: uvicorn wants to stop."""
        if self.newest is None or self.newest.is_over:
            self.close()
        else:
            self.newest.keep_alive = False

    def _hold(self) -> None:
        if not self.is_held:
            self.is_held = True
            self.transport.pause_reading()

    def read_on(self) -> None:
        """Read on, if it was held up: what came has been taken."""
        if self.is_held and len(self._waiting) < _MOST_WAITING:
            self.is_held = False
            self.transport.resume_reading()

    def _refuse(self) -> None:
        self._repeated = None
        _log.warning(_REFUSED.decode())
        if self._answering is None or not self._answering.started:
            lines = b"".join(b"%b: %b\r\n" % pair for pair in self.server_state.default_headers)
            self.turn.put_off(self.write, _REFUSAL % lines)
        self.close()

    def _opens_websocket(self) -> bool:
        named = dict(self._headers)
        if b"upgrade" not in map(bytes.strip, named.get(b"connection", b"").lower().split(b",")):
            return False
        return named.get(b"upgrade", b"").lower() == b"websocket" and self._config.ws_protocol_class is not None

    def _head(self, *, without: bytes = b"") -> bytes:
        """Write again what was read last."""
        target = self._parser.get_method(), self._url, self._parser.get_http_version().encode()
        lines = (b"%b: %b\r\n" % pair for pair in self._headers if pair[0] != without)
        return b"%b %b HTTP/%b\r\n%b\r\n" % (*target, b"".join(lines))

    def _hand_on(self) -> None:
        """Let uvicorn's protocol for WebSockets go on, from the request's first byte."""
        self.server_state.connections.discard(self)
        self._stop_timer()
        protocol = cast("type[Any]", self._config.ws_protocol_class)(
            config=self._config, server_state=self.server_state, app_state=self._app_state
        )
        self.turn.end()
        protocol.connection_made(self.transport)
        protocol.data_received(self._head())
        self.transport.set_protocol(protocol)
        self._forget()
