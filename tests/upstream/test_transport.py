import gzip
import ssl

import anyio
import pytest
from multidict import CIMultiDict
from yarl import URL

from llmgateway.catalog.model import Account, Limits
from llmgateway.errors import UpstreamError
from llmgateway.upstream.transport import Transport, read_body
from tests.upstreams.ollama_wire import OllamaWire
from tests.upstreams.server import Player
from tests.upstreams.step import Piece, Step, raw_step, redirect_step

ACCOUNT = Account(name="main", provider="ollama", wire="litellm", api_key="key-0042")
BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": false}'


async def ask(transport: Transport, player: Player, account: Account = ACCOUNT) -> bytes:
    url = transport.url(f"{player.url}/api/chat")
    response = await transport.post(account, url, CIMultiDict({"authorization": "Bearer key-0042"}), BODY)
    return await read_body(response, account)


async def test_a_body_goes_out_as_it_is_with_the_callers_headers(transport: Transport) -> None:
    async with Player(OllamaWire()) as player:
        assert b"hi" in await ask(transport, player)

    assert player.last.body == BODY
    assert player.last.headers["authorization"] == "Bearer key-0042"
    assert player.last.headers["content-type"] == "application/json"
    assert player.last.headers["accept-encoding"] == "identity"
    assert player.last.headers["user-agent"] == "llmgateway"


async def test_pitfall_077_connections_are_kept(transport: Transport) -> None:
    async with Player(OllamaWire()) as player:
        for _ in range(50):
            await ask(transport, player)

        assert player.connections == 1


async def test_what_is_asked_without_a_body_goes_over_the_same_connection(transport: Transport) -> None:
    async with Player(OllamaWire()) as player:
        player.script(Step(pieces=(Piece(b"[]"),)))
        url = transport.url(f"{player.url}/v1/models?page=1")
        response = await transport.get(ACCOUNT, url, CIMultiDict({"authorization": "Bearer key-0042"}))
        assert (response.status, await read_body(response, ACCOUNT)) == (200, b"[]")
        asked = player.last
        await ask(transport, player)

        assert (asked.method, asked.path, asked.query, asked.body) == ("GET", "/v1/models", {"page": "1"}, b"")
        assert player.connections == 1


async def test_connections_are_counted_by_account_and_use(transport: Transport) -> None:
    other = Account(name="other", provider="ollama", wire="litellm")
    limited = Account(name="main", provider="ollama", wire="litellm", limits=Limits(concurrent=3))
    async with Player(OllamaWire()) as player:
        await ask(transport, player)
        await ask(transport, player, limited)
        player.always(lambda step: step.delayed(30))
        async with anyio.create_task_group() as group:
            group.start_soon(ask, transport, player, ACCOUNT)
            group.start_soon(ask, transport, player, other)
            await player.until(lambda: player.in_flight == 2)
            counts = transport.connections()
            group.cancel_scope.cancel()

    assert counts == {("main", "idle"): 1, ("main", "busy"): 1, ("other", "idle"): 0, ("other", "busy"): 1}


async def test_pitfall_074_many_accounts_and_changed_limits_disturb_no_call(transport: Transport) -> None:
    async with Player(OllamaWire()) as player:
        player.always(lambda step: step.delayed(0.05))
        async with anyio.create_task_group() as group:
            for number in range(100):
                limits = Limits(concurrent=1 + number % 7)
                account = Account(name=f"a{number % 50}", provider="ollama", wire="litellm", limits=limits)
                group.start_soon(ask, transport, player, account)

        assert player.finished == 100


async def test_a_thousand_calls_run_at_once(transport: Transport) -> None:
    async with Player(OllamaWire()) as player:
        player.always(lambda step: step.delayed(30))
        async with anyio.create_task_group() as group:
            for _ in range(1000):
                group.start_soon(ask, transport, player)
            await player.until(lambda: player.in_flight == 1000, within_s=20)
            group.cancel_scope.cancel()
        await player.until(lambda: player.open_connections == 0)


async def test_an_accounts_limit_bounds_its_connections(transport: Transport) -> None:
    account = Account(name="small", provider="ollama", wire="litellm", limits=Limits(concurrent=2))
    async with Player(OllamaWire()) as player:
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(ask, transport, player, account)

        assert (player.finished, player.connections) == (8, 2)


async def test_a_redirect_is_not_followed(transport: Transport) -> None:
    async with Player(OllamaWire()) as other, Player(OllamaWire()) as player:
        player.script(redirect_step(f"{other.url}/api/chat"))
        response = await transport.post(ACCOUNT, URL(f"{player.url}/api/chat"), {}, BODY)
        await read_body(response, ACCOUNT)

        assert (response.status, other.requests_total) == (307, 0)


async def test_no_cookie_is_kept(transport: Transport) -> None:
    async with Player(OllamaWire()) as player:
        player.always(lambda step: step.with_headers(set_cookie="session=1"))
        await ask(transport, player)
        await ask(transport, player)

    assert "cookie" not in player.last.headers


async def test_no_proxy_is_read_from_the_environment(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Player(OllamaWire()) as proxy, Player(OllamaWire()) as player:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        await ask(transport, player)

        assert (proxy.connections, player.connections) == (0, 1)


async def test_a_compressed_answer_is_unpacked(transport: Transport) -> None:
    async with Player(OllamaWire()) as player:
        player.script(Step(headers={"content-encoding": "gzip"}, pieces=(Piece(gzip.compress(b'{"packed": true}')),)))

        assert await ask(transport, player) == b'{"packed": true}'


async def test_a_long_header_is_taken(transport: Transport) -> None:
    async with Player(OllamaWire()) as player:
        player.script(lambda step: step.with_headers(content_security_policy="x" * 20_000))

        assert b"hi" in await ask(transport, player)


async def test_an_answer_longer_than_the_bound_is_not_read_to_its_end(transport: Transport) -> None:
    async with Player(OllamaWire()) as player:
        player.script(Step(pieces=(Piece(b"x" * 10_000),), framing="chunked", ending="endless"))
        response = await transport.post(ACCOUNT, URL(f"{player.url}/api/chat"), {}, BODY)
        with pytest.raises(UpstreamError, match="more than 1000000 bytes"):
            await read_body(response, ACCOUNT, max_bytes=1_000_000)
        await player.until(lambda: bool(player.cancels), within_s=1)


@pytest.mark.parametrize("pieces", [0, 1])
@pytest.mark.parametrize("reset", [False, True])
async def test_a_lost_connection_may_be_tried_again(transport: Transport, pieces: int, reset: bool) -> None:
    async with Player(OllamaWire()) as player:
        player.script(lambda step: step.split(20).cut(pieces=pieces, reset=reset))
        with pytest.raises(UpstreamError, match="the connection was lost") as caught:
            await ask(transport, player)

    assert caught.value.may_retry
    assert caught.value.upstream_status is None


@pytest.mark.parametrize(
    ("url", "reason", "may"),
    [
        ("http://127.0.0.1:1/x", "no connection", True),
        ("http://nowhere.invalid/x", "host name was not found", True),
        ("http:///x", "not an address", False),
    ],
)
async def test_no_connection_is_said_without_the_address(
    transport: Transport, url: str, reason: str, may: bool
) -> None:
    with pytest.raises(UpstreamError, match=reason) as caught:
        await transport.post(ACCOUNT, URL(url), {}, b"")

    assert caught.value.may_retry is may
    assert "127.0.0.1" not in caught.value.message
    assert "nowhere" not in caught.value.message


async def test_a_server_without_tls_is_told_from_a_lost_connection(transport: Transport) -> None:
    async with Player(OllamaWire()) as player:
        url = URL(player.url).with_scheme("https")
        with pytest.raises(UpstreamError, match=r"no secure connection|the connection was lost|no connection"):
            await transport.post(ACCOUNT, url, {}, b"")


async def test_garbage_is_not_an_answer(transport: Transport) -> None:
    async with Player(OllamaWire()) as player:
        player.script(raw_step(b"SSH-2.0-OpenSSH_9.2\r\n"))
        with pytest.raises(UpstreamError, match=r"not valid HTTP|the connection was lost"):
            await ask(transport, player)


async def test_a_call_that_is_cancelled_closes_its_connection(transport: Transport) -> None:
    async with Player(OllamaWire()) as player:
        player.script(lambda step: step.delayed(30))
        async with anyio.create_task_group() as group:
            group.start_soon(ask, transport, player)
            await player.until(lambda: player.in_flight == 1)
            group.cancel_scope.cancel()
        await player.until(lambda: player.open_connections == 0, within_s=1)


async def test_addresses_are_parsed_once_and_not_kept_without_bound(transport: Transport) -> None:
    first = transport.url("http://127.0.0.1/a")
    assert transport.url("http://127.0.0.1/a") is first

    for number in range(5000):
        transport.url(f"http://127.0.0.1/{number}")
    assert transport.url("http://127.0.0.1/a") == first


async def test_certificates_are_checked_unless_other_roots_are_given() -> None:
    transport = Transport(ssl_context=ssl.create_default_context())
    await transport.close()
