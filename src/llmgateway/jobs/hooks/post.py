"""Sends one request to an address that was checked, and wants nothing but the status of its answer."""

import asyncio
import ssl
from collections.abc import Mapping

import aiohttp
from anyio import to_thread
from yarl import URL

from llmgateway.jobs.hooks.address import Target

_CONNECT_S = 5.0
_ANSWER_S = 20.0
_MOST_HEADER_BYTES = 8 * 1024


class Poster:
    """Opens a connection for each request: webhooks are few, and all go elsewhere.

    It follows no redirect, keeps no cookie, reads no proxy from the environment and no body of an answer.

    Args:
        trusted: Whom to trust; `None` is the system's own roots.
        answer_s: How long all of it may take.
    """

    def __init__(self, trusted: ssl.SSLContext | None = None, *, answer_s: float = _ANSWER_S) -> None:
        self._trusted = trusted
        self._answer_s = answer_s
        self._session: aiohttp.ClientSession | None = None

    async def post(self, target: Target, body: bytes, headers: Mapping[str, str]) -> int:
        """Send a body, and give the status of the answer. Raises: OSError, whose text says why there is none."""
        try:
            async with asyncio.timeout(self._answer_s):
                return await self._answered(await self._opened(), target, body, headers)
        except TimeoutError:
            raise OSError("no answer in time") from None
        except (aiohttp.ClientError, ValueError) as error:
            # Its text names the address, which may hold a secret of its own.
            raise OSError(type(error).__name__) from error

    async def close(self) -> None:
        """Give up what is still open."""
        if self._session is not None:
            await self._session.close()

    async def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            if self._trusted is None:
                self._trusted = await to_thread.run_sync(_everybodys)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._trusted, force_close=True, use_dns_cache=False),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._answer_s, sock_connect=_CONNECT_S),
                max_line_size=_MOST_HEADER_BYTES,
                max_field_size=_MOST_HEADER_BYTES,
                auto_decompress=False,
            )
        return self._session

    async def _answered(
        self, session: aiohttp.ClientSession, target: Target, body: bytes, headers: Mapping[str, str]
    ) -> int:
        response = await session.post(
            _pinned(target),
            data=body,
            headers={**headers, "Host": target.authority},
            allow_redirects=False,
            # Whose certificate it must be, and who is asked for: the address alone names nobody.
            server_hostname=target.host,
        )
        response.close()
        return response.status


def _everybodys() -> ssl.SSLContext:
    """Trust whom the system trusts; reads hundreds of certificates."""
    return ssl.create_default_context()


def _pinned(target: Target) -> URL:
    """Give the URL with the address in place of the name, so that nobody looks the name up again."""
    host = f"[{target.ip}]" if ":" in target.ip else target.ip
    return URL(f"{target.scheme}://{host}:{target.port}{target.path}", encoded=True)
