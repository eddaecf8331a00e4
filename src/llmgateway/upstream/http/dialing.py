"""From a host's name to a connection: addresses, kept for a minute, all of them tried, and TLS."""

import asyncio
import ipaddress
import socket
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import aiohappyeyeballs
from aiohappyeyeballs import AddrInfoType

from llmgateway.upstream.http.connection import Connection
from llmgateway.upstream.http.failures import NameNotFoundError, NoConnectionError, NotAnAddressError
from llmgateway.upstream.http.head import Origin

_KNOWN_FOR_S = 60.0
_MOST_KNOWN = 1000
# RFC 8305, section 5: the next address is tried beside one that is this slow.
_NEXT_AFTER_S = 0.25


class _Known(NamedTuple):
    addresses: deque[AddrInfoType]
    until_s: float


class Dialer:
    """Opens connections, and knows the addresses of their hosts.

    Args:
        timeout_s: How long a TCP and TLS handshake may take, over all addresses.
        context: Whom to trust.
    """

    def __init__(self, timeout_s: float, context: ssl.SSLContext) -> None:
        self._timeout_s = timeout_s
        self._context = context
        self._known: dict[tuple[str, int], _Known] = {}
        self._asking: dict[tuple[str, int], asyncio.Task[list[AddrInfoType]]] = {}

    async def connect(self, origin: Origin, make: Callable[[], Connection]) -> Connection:
        """Open a connection.

        Raises:
            NotAnAddressError: Its host is a number, but not an address.
            NameNotFoundError: Its host has no address.
            NoConnectionError, ssl.SSLError, TimeoutError: No address took it.
        """
        addresses = await self._addresses(origin)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._connect_one(addresses, origin, make)
        except ssl.SSLError:
            raise
        except OSError as error:
            if isinstance(error, TimeoutError) and error.errno is None:
                raise
            raise NoConnectionError(str(error)) from error

    async def _connect_one(
        self, addresses: list[AddrInfoType], origin: Origin, make: Callable[[], Connection]
    ) -> Connection:
        while True:
            try:
                return await self._connect(addresses, origin, make)
            except OSError:
                # TLS may fail at one address and work at the next.
                aiohappyeyeballs.pop_addr_infos_interleave(addresses, 1)
                if not addresses:
                    raise

    async def _connect(
        self, addresses: list[AddrInfoType], origin: Origin, make: Callable[[], Connection]
    ) -> Connection:
        loop = asyncio.get_running_loop()
        opened = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=_NEXT_AFTER_S, interleave=1, loop=loop
        )
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if origin.is_secure:
                return await self._secure(opened, origin, make)
            _, connection = await loop.create_connection(make, sock=opened)
        except BaseException:
            opened.close()
            raise
        return connection

    async def _secure(self, opened: socket.socket, origin: Origin, make: Callable[[], Connection]) -> Connection:
        loop = asyncio.get_running_loop()
        raw, _ = await loop.create_connection(asyncio.Protocol, sock=opened)
        connection = make()
        connection.connection_made(raw)
        try:
            # Certificates name hosts without the dot that says that a name is whole.
            name = origin.host.rstrip(".")
            secured = await loop.start_tls(raw, connection, self._context, server_hostname=name)
        except BaseException:
            raw.abort()
            raise
        if secured is None or raw.is_closing():
            raw.abort()
            raise ConnectionResetError("closed while it was made secure")
        connection.secured(secured)
        return connection

    async def _addresses(self, origin: Origin) -> list[AddrInfoType]:
        key = (origin.host, origin.port)
        if (literal := _literal(*key)) is not None:
            return [literal]
        known = self._known.get(key)
        loop = asyncio.get_running_loop()
        if known is not None and known.until_s > loop.time():
            known.addresses.rotate(-1)
            return list(known.addresses)
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = loop.create_task(_ask(*key))
            asking.add_done_callback(partial(self._learn, key))
        # Others wait for the same: it goes on when one of them is cancelled.
        return list(await asyncio.shield(asking))

    def _learn(self, key: tuple[str, int], asked: asyncio.Task[list[AddrInfoType]]) -> None:
        del self._asking[key]
        if asked.cancelled() or asked.exception() is not None:
            return
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[key] = _Known(deque(asked.result()), asyncio.get_running_loop().time() + _KNOWN_FOR_S)


async def _ask(host: str, port: int) -> list[AddrInfoType]:
    try:
        return list(
            await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
            )
        )
    except (OSError, UnicodeError) as error:
        raise NameNotFoundError(str(error)) from error


def _literal(host: str, port: int) -> AddrInfoType | None:
    """Read an address that needs no look-up; `None` for a name.

    Raises:
        NotAnAddressError: A number that the system would take for an address, but people would not.
    """
    if ":" not in host and not host.replace(".", "").isdigit():
        return None
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        raise NotAnAddressError("no address") from None
    if version == 6:  # noqa: PLR2004  IPv6
        return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)
