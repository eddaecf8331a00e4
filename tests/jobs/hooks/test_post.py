import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trustme

from llmgateway.jobs.hooks.address import Target
from llmgateway.jobs.hooks.post import Poster
from tests.running import NO_TLS
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player
from tests.upstreams.step import Piece, Step


def target(port: int, path: str = "/hooks?token=1", *, scheme: str = "http", host: str = "hooks.invalid") -> Target:
    # The name leads nowhere: only the address is used.
    return Target(scheme, host, port, path, "127.0.0.1")


@asynccontextmanager
async def posting(answer_s: float = 10.0, trusted: ssl.SSLContext = NO_TLS) -> AsyncIterator[Poster]:
    poster = Poster(trusted, answer_s=answer_s)
    yield poster
    await poster.close()


async def test_the_address_that_was_checked_is_connected_to_and_the_name_only_told() -> None:
    async with Player(OpenAIWire()) as player, posting() as poster:
        port = int(player.url.rpartition(":")[2])
        player.always(Step(pieces=(Piece(b"{}"),)))

        status = await poster.post(target(port), b'{"id": 1}', {"webhook-id": "msg_1"})

        request = player.last
        assert status == 200
        assert (request.method, request.target, request.body) == ("POST", "/hooks?token=1", b'{"id": 1}')
        assert request.headers["host"] == f"hooks.invalid:{port}"
        assert request.headers["webhook-id"] == "msg_1"
        assert "cookie" not in request.headers


async def test_no_redirect_is_followed_and_no_cookie_kept() -> None:
    async with Player(OpenAIWire()) as player, posting() as poster:
        port = int(player.url.rpartition(":")[2])
        headers = {"Location": f"{player.url}/elsewhere", "Set-Cookie": "a=b"}
        player.always(Step(status=302, headers=headers, pieces=(Piece(b""),)))

        assert await poster.post(target(port), b"{}", {}) == 302
        assert await poster.post(target(port), b"{}", {}) == 302

        assert {request.path for request in player.requests} == {"/hooks"}
        assert all("cookie" not in request.headers for request in player.requests)


async def test_an_endless_answer_is_not_read() -> None:
    async with Player(OpenAIWire()) as player, posting() as poster:
        port = int(player.url.rpartition(":")[2])
        player.always(Step(pieces=(Piece(b"more"),), framing="chunked", ending="endless"))

        assert await poster.post(target(port), b"{}", {}) == 200


async def test_whoever_does_not_answer_is_given_up() -> None:
    async with Player(OpenAIWire()) as player, posting(answer_s=0.2) as poster:
        port = int(player.url.rpartition(":")[2])
        player.always(Step(delay_s=30))

        with pytest.raises(OSError, match="no answer in time"):
            await poster.post(target(port), b"{}", {})


async def test_why_there_is_no_answer_is_told_without_the_address() -> None:
    async with posting() as poster:
        with pytest.raises(OSError, match=r"\w+Error$") as failed:
            await poster.post(target(1, "/?token=planted"), b"{}", {})

    assert "planted" not in str(failed.value)
    assert "127.0.0.1" not in str(failed.value)


@pytest.mark.parametrize("certified", ["hooks.invalid", "another.invalid"])
async def test_the_certificate_must_be_of_the_name_that_was_ordered(certified: str) -> None:
    authority, served, trusted = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), NO_TLS
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    authority.issue_cert(certified).configure_cert(served)
    async with _tls_server(served) as port, posting(trusted=trusted) as poster:
        answer = poster.post(target(port, scheme="https"), b"{}", {})
        if certified == "hooks.invalid":
            assert await answer == 204
        else:
            with pytest.raises(OSError, match="Certificate"):
                await answer


@asynccontextmanager
async def _tls_server(context: ssl.SSLContext) -> AsyncIterator[int]:
    import asyncio  # noqa: PLC0415

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]
