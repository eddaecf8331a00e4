"""One request on a pooled connection: aiohttp's connector and C parser, without its request and response objects.

Those cost more than all else a relayed call does (docs/performance.md): a session's request takes twice the
instructions of this. What is left out is what the gateway never uses: redirects, cookies, proxies, uploads, tracing.
"""

import asyncio
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus

import aiohttp
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

_FIRST_FINAL_STATUS = 200
_CACHED_HEADS = 4096
_CACHED_TARGETS = 1024
# A socket's own buffers hold this much, so that it is as good as sent.
_UNSEEN_BYTES = 64 * 1024


class Response:
    """An answer whose head is there.

    Args:
        content: The body as it arrives. At its end the connection goes back to the pool by itself.
        may_stay: False has the connection closed at the answer's end.
    """

    __slots__ = ("_connection", "_may_stay", "content", "headers", "status")

    def __init__(
        self, connection: Connection, message: RawResponseMessage, content: aiohttp.StreamReader, *, may_stay: bool
    ) -> None:
        self._connection: Connection | None = connection
        self._may_stay = may_stay
        self.status = message.code
        self.headers: CIMultiDictProxy[str] = message.headers
        self.content = content
        content.on_eof(self._ended)

    @property
    def content_length(self) -> int | None:
        """How many bytes the body was said to have; `None` when that was not said."""
        declared = self.headers.get("Content-Length", "")
        return int(declared) if declared.isascii() and declared.isdigit() else None

    def close(self) -> None:
        """Hang up, unless the answer has ended; safe to call twice."""
        connection, self._connection = self._connection, None
        if connection is not None:
            _hang_up(connection)

    def _ended(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        transport = connection.transport
        if not self._may_stay or transport is None or transport.get_write_buffer_size():
            # Answered before all of the question was read: what is left of it would be taken for the next one.
            _hang_up(connection)
        else:
            connection.release()


class Pool:
    """The connections to one account.

    Args:
        headers: Sent with every request, unless it names one of its own.
        max_header_bytes: The longest header of an answer.
    """

    def __init__(
        self,
        connector: aiohttp.TCPConnector,
        timeout: aiohttp.ClientTimeout,
        headers: Mapping[str, str],
        *,
        max_header_bytes: int,
    ) -> None:
        self._connector = connector
        self._timeout = timeout
        self._headers = headers
        self._max_header_bytes = max_header_bytes
        # The connector wants to know where to; the same for every request to an address.
        self._targets: dict[URL, aiohttp.ClientRequest] = {}

    async def post(self, url: URL, headers: Mapping[str, str], body: bytes, more: bytes = b"") -> Response:
        """Send a body and return when the answer's head is there.

        Args:
            more: Header lines that differ with every request, checked, each with its line break.

        Raises:
            aiohttp.ClientError, OSError: No connection, it was lost, or what came is not HTTP.
        """
        head = _head("POST", url, tuple(self._headers.items()), tuple(headers.items()))
        connection = await self._connect(url)
        message, content = await self._exchange(connection, b"%b%d\r\n%b\r\n" % (head, len(body), more), body)
        # A TLS transport does not count what the socket under it has yet to send; and who accepts has read all.
        unseen = url.scheme == "https" and len(body) > _UNSEEN_BYTES and message.code >= HTTPStatus.BAD_REQUEST
        return Response(connection, message, content, may_stay=not unseen)

    async def get(self, url: URL, headers: Mapping[str, str]) -> Response:
        """Ask without a body. Raises: as `post`."""
        head = _head("GET", url, tuple(self._headers.items()), tuple(headers.items()))
        connection = await self._connect(url)
        message, content = await self._exchange(connection, head + b"0\r\n\r\n", b"")
        return Response(connection, message, content, may_stay=True)

    def connections(self) -> tuple[int, int]:
        """Count those that wait to be used and those in use."""
        # The connector tells neither to outsiders; counting on the way would cost every request.
        idle = sum(map(len, self._connector._conns.values()))  # noqa: SLF001
        return idle, len(self._connector._acquired)  # noqa: SLF001

    async def close(self) -> None:
        """Close every connection."""
        await self._connector.close()

    async def _connect(self, url: URL) -> Connection:
        target = self._targets.get(url)
        if target is None:
            if len(self._targets) >= _CACHED_TARGETS:
                self._targets.clear()
            target = self._targets[url] = aiohttp.ClientRequest("POST", url, loop=asyncio.get_running_loop())
        try:
            return await self._connector.connect(target, [], self._timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error

    async def _exchange(
        self, connection: Connection, head: bytes, body: bytes
    ) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
        protocol, transport = connection.protocol, connection.transport
        try:
            # What came unasked since the last answer must not be taken for this one's.
            if protocol is None or transport is None or protocol.should_close:
                raise aiohttp.ServerDisconnectedError  # noqa: TRY301  hung up below, like every other
            protocol.set_response_params(
                read_until_eof=True, max_line_size=self._max_header_bytes, max_field_size=self._max_header_bytes
            )
            transport.writelines((head, body))
            while True:
                message, content = await protocol.read()
                if message.code >= _FIRST_FINAL_STATUS or message.code == HTTPStatus.SWITCHING_PROTOCOLS:
                    return message, content
        except HttpProcessingError as error:
            _hang_up(connection)
            raise aiohttp.ClientPayloadError(error.message) from error
        except BaseException:
            _hang_up(connection)
            raise


def _hang_up(connection: Connection) -> None:
    transport = connection.transport
    if transport is not None:
        # To close waits until all is written, which a peer that stopped reading puts off for ever.
        transport.abort()
    connection.close()


@lru_cache(maxsize=_CACHED_HEADS)
def _head(method: str, url: URL, defaults: tuple[tuple[str, str], ...], own: tuple[tuple[str, str], ...]) -> bytes:
    """Write a request's head up to the number of its Content-Length.

    Raises:
        aiohttp.InvalidURL: A header would not stay one line.
    """
    fields = CIMultiDict(defaults)
    fields.update(own)
    fields["Host"] = url.host_port_subcomponent or ""
    lines = [f"{method} {url.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if any(char in line for line in lines for char in "\r\n\0"):
        raise aiohttp.InvalidURL(url, "a header holds a line break")
    return "\r\n".join([*lines, "Content-Length: "]).encode()
