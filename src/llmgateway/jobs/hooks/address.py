"""Where a webhook may go: what a client names must not lead into the network that the gateway stands in.

The name is looked up here, every address it has is checked, and the connection goes to the very address that was
checked: a name that means something else a moment later leads nowhere (DNS rebinding).
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from llmgateway.errors import InvalidRequestError

_LONGEST = 2048
_LOOKUP_S = 5.0
_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?\Z")
# IPv4 behind a translator (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Protocol assignments and the old relays of 6to4 (RFC 6890, RFC 7526), which the standard library counts as global.
_RELAYS = (ipaddress.ip_network("192.0.0.0/24"), ipaddress.ip_network("192.88.99.0/24"))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Gives the addresses of a host. Raises: OSError.
Lookup = Callable[[str, int], Awaitable[Sequence[str]]]


class ForbiddenAddressError(OSError):
    """It leads to an address that is not public; the text does not say which."""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL, and the address that it was found to have."""

    scheme: str
    host: str
    port: int
    path: str
    ip: str

    @property
    def authority(self) -> str:
        """For the `Host` header: the port only where it says something."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


async def check_url(url: str, *, allow_private: bool, has_secret: bool, lookup: "Lookup | None" = None) -> None:
    """Look at a webhook's address as it is ordered. A name that cannot be looked up now is let pass: the end tells.

    Raises:
        InvalidRequestError: It will never do; the message says what would.
    """
    if not has_secret:
        raise _refused("needs `webhooks.secret` in the gateway's catalog, which signs it; ask whoever runs the gateway")
    try:
        await resolved(url, allow_private=allow_private, lookup=lookup)
    except ValueError as error:
        raise _refused(str(error)) from error
    except ForbiddenAddressError as error:
        raise _refused(f"{error}; name a public one, or set `webhooks.allow_private` in the catalog") from error
    except OSError:
        return


async def resolved(url: str, *, allow_private: bool, lookup: "Lookup | None" = None) -> Target:
    """Find the address of a URL, checked.

    Raises:
        ValueError: It is no URL that can be sent to.
        ForbiddenAddressError: One of its addresses is not public, and it must be.
        OSError: The name cannot be looked up now, or not in time.
    """
    parts, host, port = _read(url)
    async with asyncio.timeout(_LOOKUP_S):
        found = await (lookup or _looked_up)(host, port)
    if not found:
        raise OSError("its name has no address")
    if not allow_private and not all(is_public(ipaddress.ip_address(each)) for each in found):
        raise ForbiddenAddressError("leads to an address that is private, loopback, link-local or otherwise not public")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme, host, port, path, found[0])


def is_public(address: Address) -> bool:
    """Tell whether anybody on the Internet can be at this address, whatever way it is written."""
    if isinstance(address, ipaddress.IPv6Address) and (inner := _within(address)) is not None:
        return is_public(inner)
    return address.is_global and not (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_reserved
        or address.is_unspecified
        or (isinstance(address, ipaddress.IPv6Address) and address.is_site_local)
        or any(address in relays for relays in _RELAYS)
    )


def _within(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Give the IPv4 address that packets to this one end at: mapped, by 6to4, by Teredo, or behind a translator."""
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def _read(url: str) -> tuple[SplitResult, str, int]:
    if len(url) > _LONGEST:
        raise ValueError(f"is longer than {_LONGEST} characters")
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("must be plain ASCII without spaces and backslashes; percent-encode what is not")
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        raise ValueError("must begin with https:// or http://")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user or a password: what it is sent is signed")
    host = parts.hostname or ""
    if _literal(host) is None and not _NAME.match(host):
        raise ValueError("must name a host, such as https://example.com/hooks")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("must name a port from 1 to 65535, or none")
    return parts, host, port or _PORTS[parts.scheme]


def _literal(host: str) -> Address | None:
    try:
        return None if "%" in host else ipaddress.ip_address(host)
    except ValueError:
        return None


async def _looked_up(host: str, port: int) -> list[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]).partition("%")[0] for *_, address in found))


def _refused(why: str) -> InvalidRequestError:
    return InvalidRequestError(f"webhook_url {why}", param="webhook_url", code="webhook_url_invalid")
