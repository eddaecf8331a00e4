"""What is put off until the end of a turn is written before whatever ends its connection."""

import asyncio
import socket

import anyio

from tests.answering.site import GET, Call, closing, piece, says, serving, sized, start, talking

ANSWER = (start(sized(b"hello")), piece(b"hello"))


async def test_an_answer_is_written_before_its_connection_is_closed() -> None:
    async with serving(says(*ANSWER)) as site:
        assert (await site.ask(closing(GET))).endswith(b"hello")


async def test_an_answer_is_written_before_the_refusal_of_what_follows() -> None:
    async def app(call: Call) -> None:
        for message in ANSWER:
            await call.send(message)
        # As if it had come at the same moment.
        connection = await site.connection()
        connection.data_received(b"nothing that a client says\r\n\r\n")

    async with serving(app) as site, talking(site) as (reader, writer):
        writer.write(GET)
        told = await reader.read()

    assert told.index(b"hello") < told.index(b"400 Bad Request")


async def test_an_answer_is_written_though_its_client_says_no_more() -> None:
    async def app(call: Call) -> None:
        for message in ANSWER:
            await call.send(message)
        connection = await site.connection()
        connection.eof_received()
        connection.transport.close()

    async with serving(app) as site, talking(site) as (reader, writer):
        writer.write(GET)
        assert (await reader.read()).endswith(b"hello")


async def test_an_answer_is_written_though_the_server_ends() -> None:
    async def app(call: Call) -> None:
        for message in ANSWER:
            await call.send(message)
        (await site.connection()).shutdown()

    async with serving(app) as site, talking(site) as (reader, writer):
        writer.write(GET)
        assert (await reader.read()).endswith(b"hello")


async def test_a_client_that_does_not_read_is_written_no_more_than_it_takes() -> None:
    written = 0

    async def app(call: Call) -> None:
        nonlocal written
        await call.send(start())
        for _ in range(1000):
            await call.send(piece(bytes(64 * 1024), more=True))
            written += 1
        await call.send(piece())

    async with serving(app) as site:
        opened = socket.create_connection(("127.0.0.1", site.port))
        try:
            opened.sendall(GET)
            with anyio.fail_after(10):
                while not (await site.connection()).is_slow:  # noqa: ASYNC110  uvicorn has no event for it
                    await asyncio.sleep(0.005)
            before = written
            await asyncio.sleep(0.1)
            assert written == before < 1000
        finally:
            opened.close()
