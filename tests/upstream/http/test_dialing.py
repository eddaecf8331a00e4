import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
import trustme
from yarl import URL

from llmgateway.turn import Turn
from llmgateway.upstream.http.connection import Connection
from llmgateway.upstream.http.dialing import Dialer
from llmgateway.upstream.http.failures import NameNotFoundError, NoConnectionError, NotAnAddressError
from llmgateway.upstream.http.head import Origin
from tests.upstream.http.speaking import OK, read_request, saying, secured, serving, system_roots


def origin(host: str, port: int, *, secure: bool = False) -> Origin:
    return Origin(host, port, secure)


async def dial(dialer: Dialer, to: Origin) -> Connection:
    loop = asyncio.get_running_loop()
    return await dialer.connect(to, partial(Connection, loop, to, lambda *_: None, lambda *_: None, Turn()))


async def ask_once(dialer: Dialer, to: Origin) -> bytes:
    connection = await dial(dialer, to)
    response = await connection.ask(b"GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"")
    body = await response.content.read()
    connection.hang_up()
    await asyncio.sleep(0)
    return body


class Names:
    """A name service whose answers are what a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: list[Any], delay_s: float = 0.0) -> None:
        self.asked = 0
        self._answers = answers
        self._delay_s = delay_s
        monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", self.answer, raising=False)

    async def answer(self, host: str, port: int, **_: object) -> list[Any]:
        self.asked += 1
        await asyncio.sleep(self._delay_s)
        answer = self._answers[min(self.asked, len(self._answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return [
            (socket.AF_INET6 if ":" in text else socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port))
            for text in answer
        ]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    # uvloop's own loop takes no other name service.
    return "asyncio", {"use_uvloop": False}


@pytest.fixture
async def dialer() -> Dialer:
    return Dialer(0.5, system_roots())


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
async def test_a_host_is_reached_by_number_and_by_name(dialer: Dialer, host: str) -> None:
    async with serving(saying([OK]), host="::1" if ":" in host else "127.0.0.1") as server:
        assert await ask_once(dialer, origin(host, server.port)) == b"ok"


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0177.0.0.1", "999.1.1.1", "1::2::3"])
async def test_numbers_that_only_the_system_takes_for_an_address_are_refused(dialer: Dialer, host: str) -> None:
    with pytest.raises(NotAnAddressError):
        await dial(dialer, origin(host, 1))


@pytest.mark.parametrize("fault", [socket.gaierror(-2, "unknown"), UnicodeError("label too long")])
async def test_a_name_that_is_not_known_is_asked_for_again_the_next_time(
    dialer: Dialer, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    names = Names(monkeypatch, [fault, ["127.0.0.1"]])
    async with serving(saying([OK])) as server:
        with pytest.raises(NameNotFoundError):
            await dial(dialer, origin("provider.example", server.port))
        assert await ask_once(dialer, origin("provider.example", server.port)) == b"ok"

    assert names.asked == 2


async def test_addresses_are_kept_for_a_while_and_taken_in_turns(
    dialer: Dialer, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(monkeypatch, [["127.0.0.1", "127.0.0.2"]])
    peers: list[str] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer.get_extra_info("sockname")[0])
        await saying([OK])(reader, writer)

    async with serving(talk, host="0.0.0.0") as server:  # noqa: S104  two addresses of one machine
        for _ in range(4):
            await ask_once(dialer, origin("provider.example", server.port))
        assert (names.asked, peers) == (1, ["127.0.0.1", "127.0.0.2"] * 2)
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 1e9)
        await dialer._addresses(origin("provider.example", server.port))  # noqa: SLF001  without waiting for a minute

    assert names.asked == 2


async def test_those_who_need_an_address_at_once_ask_once_and_none_waits_for_another(
    dialer: Dialer, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(monkeypatch, [["127.0.0.1"]], delay_s=0.05)
    bodies: list[bytes] = []

    async def one(port: int) -> None:
        bodies.append(await ask_once(dialer, origin("provider.example", port)))

    async with serving(saying([OK])) as server, anyio.create_task_group() as group:
        with anyio.move_on_after(0.01):
            await one(server.port)
        for _ in range(5):
            group.start_soon(one, server.port)

    assert (names.asked, bodies) == (1, [b"ok"] * 5)


async def test_a_lookup_that_nobody_waits_for_any_more_fails_in_silence(
    dialer: Dialer, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(monkeypatch, [socket.gaierror(-2, "unknown")], delay_s=0.02)
    with anyio.move_on_after(0.01):
        await dial(dialer, origin("provider.example", 1))
    await anyio.sleep(0.03)

    assert names.asked == 1


async def test_all_addresses_are_tried(dialer: Dialer, monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, [["::1", "127.0.0.9", "127.0.0.1"]])
    async with serving(saying([OK])) as server:
        assert await ask_once(dialer, origin("provider.example", server.port)) == b"ok"


@asynccontextmanager
async def unanswered() -> AsyncIterator[int]:
    """A port whose queue of connections is full, so that no more of them are answered."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(8)]
        try:
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(listening.getsockname())
            await anyio.sleep(0.05)
            yield listening.getsockname()[1]
        finally:
            for each in waiting:
                each.close()


async def test_a_connection_that_is_not_answered_is_given_up_in_time() -> None:
    dialer = Dialer(0.1, system_roots())
    async with unanswered() as port:
        with anyio.fail_after(2), pytest.raises(TimeoutError):
            await dial(dialer, origin("127.0.0.1", port))


async def test_a_handshake_that_is_not_answered_is_given_up_in_time_and_its_socket_closed() -> None:
    dialer = Dialer(0.1, system_roots())

    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(talk) as server:
        with anyio.fail_after(2), pytest.raises(TimeoutError):
            await dial(dialer, origin("127.0.0.1", server.port, secure=True))
        await server.until_all_gone()


async def test_who_refuses_is_no_connection(dialer: Dialer) -> None:
    with pytest.raises(NoConnectionError):
        await dial(dialer, origin("127.0.0.1", 1))


async def test_a_stranger_is_not_trusted_and_his_connection_closed(dialer: Dialer) -> None:
    async with secured(saying([OK])) as (server, _, _url):
        with pytest.raises(ssl.SSLCertVerificationError):
            await dial(dialer, origin("127.0.0.1", server.port, secure=True))
        await server.until_all_gone()


async def test_a_name_must_be_the_certificates_own_and_its_last_dot_is_not_part_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Names(monkeypatch, [["127.0.0.1"]])
    authority, trusting = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(trusting)
    certified = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("provider.example").configure_cert(certified)
    asked: list[str | None] = []
    certified.sni_callback = lambda _socket, name, _context: asked.append(name)
    dialer = Dialer(2.0, trusting)

    async with serving(saying([OK]), context=certified) as server:
        for host in ("provider.example", "provider.example."):
            assert await ask_once(dialer, origin(host, server.port, secure=True)) == b"ok"
        with pytest.raises(ssl.SSLCertVerificationError):
            await dial(dialer, origin("other.example", server.port, secure=True))

    assert asked == ["provider.example", "provider.example", "other.example"]


async def test_who_speaks_no_tls_is_told_apart(dialer: Dialer) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()

    async with serving(talk) as server:
        with pytest.raises((ssl.SSLError, NoConnectionError)):
            await dial(dialer, origin("127.0.0.1", server.port, secure=True))


async def test_a_cancelled_handshake_leaves_no_socket(dialer: Dialer) -> None:
    async def talk(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serving(talk) as server:
        for pause_s in (0.0, 0.001, 0.01, 0.05):
            with anyio.move_on_after(pause_s):
                await dial(dialer, origin("127.0.0.1", server.port, secure=True))
        await server.until_all_gone()


async def test_not_every_name_is_remembered_for_ever(dialer: Dialer, monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, [["127.0.0.1"]])
    for number in range(1200):
        await dialer._addresses(origin(f"provider-{number}.example", 1))  # noqa: SLF001  without a thousand servers

    assert len(dialer._known) <= 1000  # noqa: SLF001


@pytest.mark.parametrize("framing", [b"Content-Length: 1000000\r\n", b""], ids=["length", "until close"])
@pytest.mark.parametrize("says_goodbye", [True, False])
async def test_a_slow_reader_gets_all_of_what_came_over_tls_before_the_end(framing: bytes, says_goodbye: bool) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n%b\r\n" % framing + bytes(1_000_000))
        with anyio.fail_after(5):
            while writer.transport.get_write_buffer_size():  # noqa: ASYNC110  nobody tells when all has been sent
                await asyncio.sleep(0.01)
        if says_goodbye:
            writer.close()
        else:  # the end of TCP, and none of TLS
            with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as same:
                same.shutdown(socket.SHUT_WR)
        await over.wait()

    over = asyncio.Event()
    async with secured(talk) as (_, pool, url):
        response = await pool.post(URL(url), {}, b"{}")
        size = 0
        with anyio.fail_after(10):
            while piece := await response.content.readany():
                size += len(piece)
                await asyncio.sleep(0.1)
        over.set()

    assert size == 1_000_000
