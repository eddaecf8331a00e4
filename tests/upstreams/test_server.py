"""The player's own promises: bytes as told, endings as told, everything counted."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.upstreams.openai_wire import openai
from tests.upstreams.server import Player
from tests.upstreams.step import Piece, Step, json_step, raw_step, redirect_step

CHAT = {"model": "m", "messages": [{"role": "user", "content": "one two three four five six"}]}


async def _ask(player: Player, **fields: object) -> bytes:
    """Send one chat request on a bare socket and read to the end of the connection."""
    reader, writer = await _send(player, **fields)
    try:
        return await reader.read()
    finally:
        await _close(writer)


async def _send(player: Player, **fields: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", player.port, limit=1024)
    body = json.dumps({**CHAT, **fields}).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: p\r\nauthorization: Bearer sk-upstream\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    await writer.drain()
    return reader, writer


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_keep_alive_serves_many_requests_on_one_connection() -> None:
    async with Player(openai()) as player, aiohttp.ClientSession() as session:
        answers = []
        for _ in range(3):
            headers = {"authorization": "Bearer sk-upstream"}
            async with session.post(f"{player.base}/chat/completions", json=CHAT, headers=headers) as response:
                answers.append(await response.json())

        assert answers[-1]["choices"][0]["message"]["content"] == "one two three four five six"
        assert (player.connections, player.requests_total, player.finished) == (1, 3, 3)


async def _halves() -> AsyncIterator[bytes]:
    body = json.dumps(CHAT).encode()
    yield body[:10]
    yield body[10:]


async def test_a_chunked_request_body_is_read_whole() -> None:
    async with Player(openai()) as player, aiohttp.ClientSession() as session:
        headers = {"authorization": "Bearer sk-upstream"}
        async with session.post(f"{player.base}/chat/completions", data=_halves(), headers=headers) as response:
            assert response.status == 200

        assert player.last.headers["transfer-encoding"] == "chunked"
        assert player.last.json == CHAT


async def test_a_wrong_key_is_refused_in_the_wires_own_words() -> None:
    async with Player(openai()) as player, aiohttp.ClientSession() as session:
        headers = {"authorization": "Bearer sk-something-else"}
        async with session.post(f"{player.base}/chat/completions", json=CHAT, headers=headers) as response:
            error = (await response.json())["error"]

        assert response.status == 401
        assert error["code"] == "invalid_api_key"


async def test_a_script_is_played_in_order_before_the_standing_play() -> None:
    async with Player(openai()) as player, aiohttp.ClientSession() as session:
        player.script(player.wire.error(429, "slow down", retry_after="7"), redirect_step("http://127.0.0.1:1/"))
        player.always(json_step({"always": True}))
        seen = []
        for _ in range(4):
            async with session.post(player.base, json=CHAT, allow_redirects=False) as response:
                seen.append((response.status, response.headers.get("retry-after")))

        assert seen == [(429, "7"), (307, None), (200, None), (200, None)]


async def test_a_twist_changes_the_wires_own_answer() -> None:
    async with Player(openai()) as player:
        player.script(lambda step: step.cut(pieces=3))
        answer = await _ask(player, stream=True)

        assert answer.count(b"data: ") == 3
        assert b"[DONE]" not in answer
        assert not answer.endswith(b"0\r\n\r\n")


async def test_one_byte_pieces_join_to_the_same_body() -> None:
    async with Player(openai()) as player, aiohttp.ClientSession() as session:
        player.script(Step(pieces=(Piece("é😀".encode() * 20),), framing="chunked").split(1))
        async with session.post(player.base, json=CHAT) as response:
            sizes = [len(chunk) async for chunk, _ in response.content.iter_chunks() if chunk]

        assert sum(sizes) == 120
        assert player.pieces_written == 120


async def test_a_cut_body_keeps_its_promised_length() -> None:
    async with Player(openai()) as player:
        player.script(lambda step: step.cut(after_bytes=10))
        answer = await _ask(player)
        head, _, body = answer.partition(b"\r\n\r\n")

        assert len(body) == 10
        assert int(head.split(b"content-length: ")[1].split(b"\r\n")[0]) > 10


async def test_a_reset_is_a_reset() -> None:
    async with Player(openai()) as player:
        player.script(lambda step: step.cut(pieces=2, reset=True))
        reader, writer = await _send(player, stream=True)

        with pytest.raises(ConnectionResetError):
            await reader.read()
        await _close(writer)


async def test_silence_lasts_until_the_peer_goes() -> None:
    async with Player(openai()) as player:
        player.script(lambda step: step.silent(pieces=2))
        reader, writer = await _send(player, stream=True)
        await reader.readuntil(b"data: ")
        await player.until(lambda: player.pieces_written == 2)
        assert player.in_flight == 1

        await _close(writer)
        left = time.perf_counter()
        await player.until(lambda: bool(player.cancels))
        assert player.cancels[0].noticed - left < 1
        assert player.in_flight == 0


async def test_a_peer_that_leaves_before_the_head_is_a_cancel() -> None:
    async with Player(openai()) as player:
        player.script(lambda step: step.delayed(30))
        _, writer = await _send(player)
        await player.until(lambda: player.in_flight == 1)
        await _close(writer)

        await player.until(lambda: len(player.cancels) == 1)
        assert player.finished == 0


async def test_an_endless_answer_waits_for_a_slow_reader() -> None:
    async with Player(openai()) as player:
        player.script(Step(pieces=(Piece(b"x" * 65536),), framing="chunked").endless(pieces=1))
        reader, writer = await _send(player)
        await reader.readexactly(1)
        await asyncio.sleep(0.3)
        written = player.pieces_written
        await asyncio.sleep(0.2)

        assert player.pieces_written == written, "nobody read, so nothing more was written"
        await _close(writer)
        await player.until(lambda: player.in_flight == 0)


async def test_raw_bytes_need_not_be_http() -> None:
    async with Player(openai()) as player:
        player.script(raw_step(b"\x00\xffgarbage"))

        assert await _ask(player) == b"\x00\xffgarbage"


async def test_pauses_come_before_every_piece_but_the_first() -> None:
    async with Player(openai()) as player:
        player.script(lambda step: step.first(3).paced(0.05))
        begun = time.perf_counter()
        reader, writer = await _send(player, stream=True)
        await reader.readuntil(b"0\r\n\r\n")

        assert 0.1 <= time.perf_counter() - begun < 1
        await _close(writer)


async def test_strict_mode_refuses_unknown_and_null_fields() -> None:
    async with Player(openai(), strict=CHAT.keys()) as player, aiohttp.ClientSession() as session:
        headers = {"authorization": "Bearer sk-upstream"}
        statuses = []
        for more in ({}, {"temperature": 1}, {"messages": [{"role": "user", "content": "x", "name": None}]}):
            async with session.post(f"{player.base}/chat/completions", json={**CHAT, **more}, headers=headers) as got:
                statuses.append(got.status)

        assert statuses == [200, 400, 400]


async def test_waiting_for_what_never_comes_times_out() -> None:
    async with Player(openai()) as player:
        with pytest.raises(TimeoutError):
            await player.until(lambda: player.connections == 1, within_s=0.05)


async def test_a_request_that_cannot_be_read_is_refused() -> None:
    async with Player(openai()) as player:
        reader, writer = await _send(player, messages=[{"role": "user", "content": 7}])
        status = await reader.readline()
        await _close(writer)

        assert b" 400 " in status


async def test_a_play_that_fails_is_reported_when_the_player_is_left() -> None:
    async def play() -> None:
        async with Player(openai()) as player:
            player.script(lambda step: step.endless(pieces=0))
            assert await _ask(player) == b""

    with pytest.raises(ExceptionGroup) as caught:
        await play()
    assert caught.group_contains(ValueError)
