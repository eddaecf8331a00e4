"""The wire to providers: one pool of connections per account, and every failure of a connection as our own error.

The one place that opens connections to providers. It follows no redirect, keeps no cookie, reads no proxy from the
environment and knows no deadline: that is the caller's.
"""

import asyncio
import ssl
from collections.abc import Mapping
from functools import cache

from yarl import URL

from llmgateway.catalog.model import Account
from llmgateway.errors import UpstreamError
from llmgateway.turn import Turn
from llmgateway.upstream.http.dialing import Dialer
from llmgateway.upstream.http.failures import (
    NameNotFoundError,
    NoConnectionError,
    NotAnAddressError,
    NotHTTPError,
)
from llmgateway.upstream.http.head import RequestHead, request_head
from llmgateway.upstream.http.pool import Pool
from llmgateway.upstream.http.response import Response

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
_CONNECTIONS = 4096
_CACHED_URLS = 4096
_DEFAULT_HEADERS = {
    "Accept": "*/*",
    # A compressed event stream is held back by its compressor; and unpacking costs more than the bytes.
    "Accept-Encoding": "identity",
    "Content-Type": "application/json",
    "User-Agent": "llmgateway",
}


class Transport:
    """Connections to providers, pooled by account and kept alive.

    Args:
        connect_timeout_s: How long a TCP and TLS handshake may take.
        max_connections: Per account whose catalog entry sets no `concurrent` limit.
        ssl_context: Whom to trust; `None` is the system's own roots, verified.
        turn: Writes the questions.
    """

    def __init__(
        self,
        *,
        connect_timeout_s: float = 5.0,
        max_connections: int = _CONNECTIONS,
        ssl_context: ssl.SSLContext | None = None,
        turn: Turn | None = None,
    ) -> None:
        self._dialer = Dialer(connect_timeout_s, ssl_context or _system_roots())
        self._max_connections = max_connections
        self._turn = turn or Turn()
        # By limit too: a changed catalog gets a new pool, and calls in flight keep the one they run on.
        self._sessions: dict[tuple[str, int], Pool] = {}
        self._urls: dict[str, URL] = {}

    async def post(
        self, account: Account, url: URL, headers: Mapping[str, str], body: bytes, more: bytes = b""
    ) -> Response:
        """Send a body and return when the answer's head is there, whatever its status.

        The caller reads the answer to its end (`read_body`, `response.content`) or calls `response.close()`.
        The headers replace this transport's own of the same name; a `CIMultiDict` that is kept is the fastest.

        Args:
            more: Header lines that differ with every request, checked, each with its line break.

        Raises:
            UpstreamError: No connection, or it was lost before the answer's head.
        """
        try:
            return await self.pool(account).post(url, headers, body, more)
        except OSError as error:
            raise connection_failure(error, account) from error

    async def get(self, account: Account, url: URL, headers: Mapping[str, str]) -> Response:
        """Ask without a body; everything else is as for `post`. Raises: UpstreamError."""
        try:
            return await self.pool(account).get(url, headers)
        except OSError as error:
            raise connection_failure(error, account) from error

    def pool(self, account: Account) -> Pool:
        """Give an account's connections. What they raise is an `OSError`, which `connection_failure` makes ours."""
        limit = account.limits.concurrent or self._max_connections
        return self._sessions.get((account.name, limit)) or self._open(account, limit)

    def url(self, text: str) -> URL:
        """Parse an address once: the catalog has few, and each call needs one."""
        url = self._urls.get(text)
        if url is None:
            if len(self._urls) >= _CACHED_URLS:
                self._urls.clear()
            url = self._urls[text] = URL(text)
        return url

    def connections(self) -> dict[tuple[str, str], int]:
        """Count the connections of each account that are `idle` and `busy`."""
        counts: dict[tuple[str, str], int] = {}
        for (account, _), pool in self._sessions.items():
            idle, busy = pool.connections()
            counts[account, "idle"] = counts.get((account, "idle"), 0) + idle
            counts[account, "busy"] = counts.get((account, "busy"), 0) + busy
        return counts

    async def close(self) -> None:
        """Close every connection, used or not."""
        sessions = list(self._sessions.values())
        self._sessions.clear()
        await asyncio.gather(*(session.close() for session in sessions))

    def _open(self, account: Account, limit: int) -> Pool:
        session = Pool(self._dialer, _DEFAULT_HEADERS, limit=limit, turn=self._turn)
        self._sessions[account.name, limit] = session
        return session


def post_head(url: URL, headers: Mapping[str, str]) -> RequestHead:
    """Write the head of all posts that are alike, for `Pool.ask`. Raises: NotAnAddressError."""
    return request_head("POST", url, tuple(_DEFAULT_HEADERS.items()), tuple(headers.items()))


async def read_body(response: Response, account: Account, *, max_bytes: int = MAX_RESPONSE_BYTES) -> bytes:
    """Read an answer whole, unless `response.whole` has given it already.

    Its connection goes back to the pool, or is closed when the wait is cancelled.

    Raises:
        UpstreamError: The connection was lost, or the answer is longer than `max_bytes`.
    """
    declared_bytes = response.content_length
    # A packed answer is longer than it says.
    if declared_bytes is not None and declared_bytes <= max_bytes and response.encoding is None:
        try:
            return await response.content.read()
        except OSError as error:
            raise connection_failure(error, account) from error
        finally:
            response.close()
    pieces: list[bytes] = []
    size_bytes = 0
    content = response.content
    try:
        while not content.at_eof():
            piece = await content.readany()
            size_bytes += len(piece)
            if size_bytes > max_bytes:
                raise UpstreamError(
                    f"{account.provider} answered with more than {max_bytes} bytes, which is as much as is accepted.",
                    upstream_status=response.status,
                )
            pieces.append(piece)
    except OSError as error:
        raise connection_failure(error, account) from error
    finally:
        # Does nothing to a connection whose answer ended: that one is back in the pool already.
        response.close()
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def connection_failure(error: OSError, account: Account) -> UpstreamError:
    """Turn what the connection or the operating system raised into our own error, without the address it went to."""
    reason = next((text for kind, text in _REASONS if isinstance(error, kind)), _LOST)
    return UpstreamError(f"{account.provider}: {reason}.", may_retry=not isinstance(error, _LASTING))


# The first that fits.
_REASONS: tuple[tuple[type[OSError], str], ...] = (
    (ssl.SSLError, "no secure connection; its certificate is not trusted, or TLS is not spoken there"),
    (NameNotFoundError, "its host name was not found; check the account's api_base and the name service"),
    (TimeoutError, "no connection in time; check the account's api_base and that the provider runs"),
    (NoConnectionError, "no connection; check the account's api_base and that the provider runs"),
    (NotAnAddressError, "the account's api_base is not an address"),
    (NotHTTPError, "the answer was not valid HTTP"),
)
_LOST = "the connection was lost before the answer was complete"
_LASTING = (ssl.SSLCertVerificationError, NotAnAddressError)


@cache
def _system_roots() -> ssl.SSLContext:
    """Read the system's roots once: it takes milliseconds, which no call is to wait for."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
