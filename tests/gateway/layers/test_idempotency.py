import asyncio
import io
import json
import time
import timeit
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

import anyio
import pytest
import redis
from typing_extensions import override

from llmgateway.caller import Caller
from llmgateway.errors import ConflictError, GatewayError, InvalidRequestError, ProviderTimeoutError, UpstreamError
from llmgateway.exchange import Call, Complete, Exchange, Reply, Streamed
from llmgateway.gateway.layers.idempotency import MOST_BYTES, Idempotency, _CollectedChunks
from llmgateway.stores.base import StoreAwayError
from llmgateway.stores.memory.values import MemoryValues
from llmgateway.stores.redis.link import RedisLink
from llmgateway.stores.redis.values import RedisValues
from llmgateway.telemetry.logs import LineSink, build_logger
from llmgateway.wire.sse import DONE
from tests.services import Server, redis_server

CALL = Call("chat", "gpt", b'{"model":"gpt"}')
STREAM = Call("chat", "gpt", b'{"model":"gpt","stream":true}', stream=True)
EVENTS = (b'data: {"n":1}\n\n', b'data: {"n":2}\n\ndata: {"n":3}\n\n', DONE)


class Target:
    """Answers each call with its number, when it is let; what is in `fails` is raised first."""

    def __init__(self) -> None:
        self.calls = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails: list[GatewayError] = []
        self.closed = 0
        self.events: tuple[bytes, ...] = EVENTS
        self.breaks: GatewayError | None = None
        self.size_bytes = 0

    async def send(self, exchange: Exchange, call: Call) -> Reply:
        self.calls += 1
        number = self.calls
        await self.gate.wait()
        if self.fails:
            raise self.fails.pop(0)
        exchange.cost_usd, exchange.provider, exchange.upstream_model = 0.25, "main", "gpt-4o"
        headers = [(b"x-upstream-id", b"%d" % number)]
        if call.stream:
            return Streamed(self._chunks(), headers=headers, model="gpt-4o-2024")
        return Complete(b'{"n":%d}' % number + b" " * self.size_bytes, headers=headers, model="gpt-4o-2024")

    async def _chunks(self) -> AsyncGenerator[bytes]:
        try:
            for event in self.events:
                yield event
            if self.breaks is not None:
                raise self.breaks
        finally:
            self.closed += 1


def exchange(key: str | None = "key-1", /, **known: object) -> Exchange:
    made = Exchange(path="/v1/chat/completions", idempotency_key=key)
    for name, value in known.items():
        setattr(made, name, value)
    return made


def ended(made: Exchange) -> None:
    for end in made.at_end:
        end()


async def read(reply: Reply, most: int = 1000) -> list[bytes]:
    assert isinstance(reply, Streamed)
    chunks = []
    try:
        async for chunk in reply.chunks:
            chunks.append(chunk)
            if len(chunks) >= most:
                break
    finally:
        await reply.chunks.aclose()
    return chunks


@pytest.fixture
def target() -> Target:
    return Target()


@pytest.fixture
def layer(target: Target) -> Idempotency:
    return Idempotency(MemoryValues(), 60.0, target)


async def test_a_call_without_a_key_is_none_of_its_business(layer: Idempotency) -> None:
    replies = [await layer.send(exchange(None), CALL) for _ in range(2)]

    assert [reply.body for reply in replies if isinstance(reply, Complete)] == [b'{"n":1}', b'{"n":2}']


async def test_the_same_key_and_body_get_the_same_answer_for_nothing(layer: Idempotency, target: Target) -> None:
    first = await layer.send(exchange(), CALL)
    again = exchange()
    second = await layer.send(again, CALL)

    assert second == first
    assert target.calls == 1
    assert again.replayed
    assert (again.cost_usd, again.provider, again.upstream_model) == (0.0, "main", "gpt-4o")
    assert (b"idempotent-replayed", b"true") in exchange_headers(again)


def exchange_headers(made: Exchange) -> list[tuple[bytes, bytes]]:
    made.operation = "chat"
    return made.headers()


async def test_another_body_is_a_conflict_whether_the_first_runs_or_is_over(layer: Idempotency, target: Target) -> None:
    other = Call("chat", "gpt", b'{"model":"gpt","n":2}')
    target.gate.clear()
    async with anyio.create_task_group() as group:
        group.start_soon(layer.send, exchange(), CALL)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(ConflictError) as running:
            await layer.send(exchange(), other)
        target.gate.set()

    with pytest.raises(ConflictError) as over:
        await layer.send(exchange(), other)

    for told in (running.value, over.value):
        assert (told.status, told.code, told.param) == (409, "idempotency_conflict", "Idempotency-Key")
    assert target.calls == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "line\n"])
async def test_a_key_that_is_none_is_refused(layer: Idempotency, target: Target, key: str) -> None:
    with pytest.raises(InvalidRequestError, match="1 to 255 printable") as told:
        await layer.send(exchange(key), CALL)

    assert (told.value.status, told.value.param) == (400, "Idempotency-Key")
    assert target.calls == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"caller": Caller(kind="client", key_id="a")}, {"caller": Caller(kind="client", key_id="b")}),
        ({"organization": "acme"}, {"organization": "umbrella"}),
        ({"organization": "acme"}, {}),
        ({"caller": Caller()}, {"caller": Caller(kind="admin")}),
        ({"path": "/v1/chat/completions"}, {"path": "/v1/completions"}),
        (
            {"caller": Caller(kind="provider", key_id="address_192.0.2.1", provider_key="sk-a")},
            {"caller": Caller(kind="provider", key_id="address_192.0.2.1", provider_key="sk-b")},
        ),
        ({"idempotency_key": "1"}, {"idempotency_key": "2"}),
    ],
)
async def test_a_key_is_of_one_caller_and_path(
    layer: Idempotency, target: Target, one: dict[str, object], other: dict[str, object]
) -> None:
    for known in (one, other):
        await layer.send(exchange(**known), CALL)
    assert target.calls == 2

    for known in (one, other):
        await layer.send(exchange(**known), CALL)
    assert target.calls == 2


async def asked_at_once(layer: Idempotency, target: Target, times: int) -> list[Reply]:
    """Ask so often before the first is answered."""
    target.gate.clear()
    replies: list[Reply] = []

    async def ask() -> None:
        replies.append(await layer.send(exchange(), CALL))

    async with anyio.create_task_group() as group:
        for _ in range(times):
            group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        target.gate.set()
    return replies


async def test_repeats_wait_for_the_first(layer: Idempotency, target: Target) -> None:
    replies = await asked_at_once(layer, target, 50)

    assert target.calls == 1
    assert replies == [replies[0]] * 50


async def test_a_repeat_waits_no_longer_than_its_own_deadline(layer: Idempotency, target: Target) -> None:
    target.gate.clear()
    async with anyio.create_task_group() as group:
        group.start_soon(layer.send, exchange(), CALL)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(ProviderTimeoutError):
            await layer.send(exchange(deadline=time.perf_counter() + 0.02), CALL)
        target.gate.set()


async def test_errors_are_not_kept_and_the_next_one_runs(layer: Idempotency, target: Target) -> None:
    target.fails = [UpstreamError("down"), UpstreamError("still down")]
    for _ in range(2):
        with pytest.raises(UpstreamError):
            await layer.send(exchange(), CALL)

    assert await layer.send(exchange(), CALL) == await layer.send(exchange(), CALL)
    assert target.calls == 3


async def test_when_the_first_fails_one_of_those_who_wait_runs(layer: Idempotency, target: Target) -> None:
    target.gate.clear()
    target.fails = [UpstreamError("down")]
    ends: list[object] = []

    async def ask() -> None:
        try:
            ends.append(await layer.send(exchange(), CALL))
        except UpstreamError as error:
            ends.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        target.gate.set()

    assert target.calls == 2
    assert len([end for end in ends if isinstance(end, Complete)]) == 4


async def test_a_client_that_leaves_frees_its_key(layer: Idempotency, target: Target) -> None:
    target.gate.clear()
    async with anyio.create_task_group() as group:
        group.start_soon(layer.send, exchange(), CALL)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
    target.gate.set()

    assert isinstance(await layer.send(exchange(), CALL), Complete)
    assert target.calls == 2


async def test_who_lost_its_key_leaves_the_answer_of_another_where_it_is() -> None:
    values, slow, quick = MemoryValues(), Target(), Target()
    slow.gate.clear()
    slow.fails.append(UpstreamError("no"))
    stalled, other = Idempotency(values, 60.0, slow), Idempotency(values, 60.0, quick)
    first = asyncio.ensure_future(stalled.send(exchange(), CALL))
    await anyio.wait_all_tasks_blocked()
    await values.remove(next(iter(stalled._running)))  # noqa: SLF001  its lease is over
    await other.send(exchange(), CALL)
    slow.gate.set()
    with pytest.raises(UpstreamError):
        await first
    await other.send(again := exchange(), CALL)

    assert (again.replayed, quick.calls) == (True, 1)


class SilentValues(MemoryValues):
    """Takes a claim, and is long in saying so."""

    @override
    async def add(self, key: str, value: bytes, ttl_s: float) -> bytes | None:
        await super().add(key, value, ttl_s)
        await asyncio.Event().wait()
        return None


async def test_who_leaves_before_it_knows_that_the_key_is_its_own_frees_it(target: Target) -> None:
    values = SilentValues()
    layer = Idempotency(values, 60.0, target)
    first = asyncio.ensure_future(layer.send(exchange(), CALL))
    await anyio.wait_all_tasks_blocked()
    (place,) = layer._running  # noqa: SLF001
    assert values.look(place) is not None

    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first

    assert values.look(place) is None


async def test_a_stream_is_replayed_byte_for_byte(layer: Idempotency, target: Target) -> None:
    first = await read(await layer.send(exchange(), STREAM))
    again = exchange()
    reply = await layer.send(again, STREAM)

    assert await read(reply) == first == list(EVENTS)
    assert (reply.headers, reply.model) == ([(b"x-upstream-id", b"1")], "gpt-4o-2024")
    assert (target.calls, again.replayed, again.cost_usd) == (1, True, 0.0)


async def test_a_repeat_of_a_stream_that_runs_gets_it_whole(layer: Idempotency, target: Target) -> None:
    running = await layer.send(exchange(), STREAM)
    got: list[list[bytes]] = []

    async def ask() -> None:
        got.append(await read(await layer.send(exchange(), STREAM)))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        assert got == []
        await read(running)

    assert got == [list(EVENTS)]
    assert target.calls == 1


async def test_a_stream_that_breaks_off_is_not_kept(layer: Idempotency, target: Target) -> None:
    target.events, target.breaks = EVENTS[:2], UpstreamError("gone")
    with pytest.raises(UpstreamError):
        await read(await layer.send(exchange(), STREAM))
    target.events, target.breaks = EVENTS, None

    assert await read(await layer.send(exchange(), STREAM)) == list(EVENTS)
    assert target.calls == 2


@pytest.mark.parametrize("events", [EVENTS[:2], ()])
async def test_a_stream_that_ends_without_done_is_not_kept(
    layer: Idempotency, target: Target, events: tuple[bytes, ...]
) -> None:
    target.events = events
    for _ in range(2):
        assert await read(await layer.send(exchange(), STREAM)) == list(events)

    assert target.calls == 2


async def test_a_client_that_leaves_in_the_middle_of_its_stream_frees_its_key(
    layer: Idempotency, target: Target
) -> None:
    await read(await layer.send(exchange(), STREAM), most=1)

    assert await read(await layer.send(exchange(), STREAM)) == list(EVENTS)
    assert (target.calls, target.closed) == (2, 2)


async def test_a_stream_that_nobody_ever_read_frees_its_key_at_its_end(layer: Idempotency, target: Target) -> None:
    first = exchange()
    reply = await layer.send(first, STREAM)
    ended(first)

    second = await layer.send(exchange(), STREAM)
    await read(second)
    assert target.calls == 2
    await read(reply)  # too late to be kept
    assert (await layer.send(exchange(), STREAM)).headers == second.headers


async def test_an_answer_that_is_too_large_is_given_and_not_kept(layer: Idempotency, target: Target) -> None:
    target.size_bytes = MOST_BYTES
    target.events = (b"data: %s\n\n" % (b"x" * (MOST_BYTES // 2)),) * 3 + (DONE,)
    for _ in range(2):
        await layer.send(exchange("whole"), CALL)
        assert len(await read(await layer.send(exchange("stream"), STREAM))) == 4

    assert target.calls == 4


async def test_a_large_answer_is_kept_and_comes_back_whole(layer: Idempotency, target: Target) -> None:
    target.size_bytes = 1_000_000
    body = b'{"model":"gpt","text":"%s"}' % (b"x" * 300_000)
    large = Call("chat", "gpt", body)

    assert await layer.send(exchange(), large) == await layer.send(exchange(), large)
    assert target.calls == 1


async def test_what_is_kept_ends_with_its_time(target: Target) -> None:
    layer = Idempotency(MemoryValues(), 0.03, target)
    await layer.send(exchange(), CALL)

    while target.calls == 1:
        await layer.send(exchange(), CALL)


async def test_what_another_version_wrote_is_as_good_as_none(target: Target) -> None:
    values = MemoryValues()
    keys: list[str] = []

    class Spy:
        def __getattr__(self, name: str) -> object:
            return getattr(values, name)

        def put(self, key: str, value: bytes, ttl_s: float, tags: tuple[str, ...] = ()) -> None:
            keys.append(key)
            values.put(key, value[:33] + b"\xc1damaged", ttl_s, tags)

    layer = Idempotency(Spy(), 60.0, target)  # type: ignore[arg-type]  # it has all of them
    await layer.send(exchange(), CALL)

    assert isinstance(await layer.send(exchange(), CALL), Complete)
    assert target.calls == 2
    assert all(key.startswith("idem:") and "key-1" not in key for key in keys)


class Away:
    """Values of a store that is away."""

    async def add(self, key: str, value: bytes, ttl_s: float) -> bytes | None:
        raise StoreAwayError

    async def renew(self, key: str, value: bytes, ttl_s: float) -> bool:
        raise StoreAwayError

    def put(self, key: str, value: bytes, ttl_s: float, tags: tuple[str, ...] = ()) -> None:
        """Nobody keeps it."""


async def test_without_a_store_calls_are_answered_and_repeats_still_wait(target: Target) -> None:
    layer = Idempotency(Away(), 60.0, target)  # type: ignore[arg-type]  # only what is asked of it

    replies = await asked_at_once(layer, target, 5)

    assert target.calls == 1
    assert len(replies) == 5


@pytest.fixture(scope="module")
def redis_of_all() -> Iterator[Server]:
    with redis_server() as server:
        yield server


class Processes:
    """Gateways that share nothing but a Redis; `target` is upstream of all."""

    def __init__(self, server: Server, target: Target) -> None:
        logger = build_logger(LineSink(io.BytesIO()), level="error", log_format="json")
        self.target = target
        self.links = [RedisLink(server.url, logger=logger) for _ in range(2)]
        self.one, self.other = (Idempotency(RedisValues(link), 60.0, target, lease_s=0.3) for link in self.links)


@pytest.fixture
async def processes(redis_of_all: Server, target: Target) -> AsyncIterator[Processes]:
    with redis.Redis.from_url(redis_of_all.url) as client:
        client.flushall()
    made = Processes(redis_of_all, target)
    for link in made.links:
        await link.connect()
    yield made
    for link in made.links:
        await link.close()


async def test_another_process_gives_the_same_answer(processes: Processes) -> None:
    first = await processes.one.send(exchange(), CALL)
    stream = await read(await processes.one.send(exchange("stream"), STREAM))

    assert await processes.other.send(exchange(), CALL) == first
    assert await read(await processes.other.send(exchange("stream"), STREAM)) == stream
    assert processes.target.calls == 2


async def test_another_process_waits_for_the_first_as_long_as_it_lives(processes: Processes) -> None:
    processes.target.gate.clear()
    replies: list[Reply] = []

    async def ask(layer: Idempotency) -> None:
        replies.append(await layer.send(exchange(), CALL))

    async with anyio.create_task_group() as group:
        group.start_soon(processes.one.run)
        group.start_soon(ask, processes.one)
        while processes.target.calls == 0:  # noqa: ASYNC110  it has no event
            await anyio.sleep(0.005)
        for _ in range(3):
            group.start_soon(ask, processes.other)
        with pytest.raises(ConflictError):
            await processes.other.send(exchange(), Call("chat", "gpt", b"{}"))
        await anyio.sleep(0.7)  # twice the lease: it was renewed
        assert processes.target.calls == 1
        processes.target.gate.set()
        while len(replies) < 4:  # noqa: ASYNC110  likewise
            await anyio.sleep(0.005)
        group.cancel_scope.cancel()

    assert processes.target.calls == 1
    assert replies == [replies[0]] * 4


async def test_the_death_of_a_process_frees_its_key(processes: Processes) -> None:
    processes.target.gate.clear()
    async with anyio.create_task_group() as group:
        group.start_soon(processes.one.send, exchange(), CALL)  # its `run` does not: nothing is renewed
        while processes.target.calls == 0:  # noqa: ASYNC110  it has no event
            await anyio.sleep(0.005)

        group.start_soon(processes.other.send, exchange(), CALL)
        with anyio.fail_after(3):
            while processes.target.calls == 1:  # noqa: ASYNC110  likewise
                await anyio.sleep(0.005)
        processes.target.gate.set()


async def test_another_process_takes_over_when_the_first_fails(processes: Processes) -> None:
    processes.target.gate.clear()
    processes.target.fails = [UpstreamError("down")]

    async def fail() -> None:
        with pytest.raises(UpstreamError):
            await processes.one.send(exchange(), CALL)

    replies: list[Reply] = []

    async def ask() -> None:
        replies.append(await processes.other.send(exchange(), CALL))

    async with anyio.create_task_group() as group:
        group.start_soon(fail)
        while processes.target.calls == 0:  # noqa: ASYNC110  it has no event
            await anyio.sleep(0.005)
        group.start_soon(ask)
        processes.target.gate.set()

    assert (processes.target.calls, len(replies)) == (2, 1)


async def test_a_claim_that_a_restarted_redis_forgot_is_made_again(processes: Processes, redis_of_all: Server) -> None:
    processes.target.gate.clear()
    async with anyio.create_task_group() as group:
        group.start_soon(processes.one.run)
        group.start_soon(processes.one.send, exchange(), CALL)
        while processes.target.calls == 0:  # noqa: ASYNC110  it has no event
            await anyio.sleep(0.005)
        with redis.Redis.from_url(redis_of_all.url) as client:
            client.flushall()
            with anyio.fail_after(3):
                while not client.keys("llmgw:idem:*"):  # noqa: ASYNC110  likewise
                    await anyio.sleep(0.01)
        with pytest.raises(ConflictError):
            await processes.other.send(exchange(), Call("chat", "gpt", b"{}"))
        processes.target.gate.set()
        group.cancel_scope.cancel()


def relative_unit_s() -> float:
    small = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
    return min(timeit.repeat(lambda: json.dumps(small), number=2000)) / 2000


class Many:
    """Twenty thousand chunks."""

    def __init__(self) -> None:
        self.left = 20_000

    def __aiter__(self) -> "Many":
        return self

    async def __anext__(self) -> bytes:
        self.left -= 1
        if not self.left:
            raise StopAsyncIteration
        return EVENTS[0]

    async def aclose(self) -> None:
        """Nothing is open."""


@pytest.mark.alone
async def test_a_chunk_costs_less_than_a_microsecond_here() -> None:
    """On the slowest of machines, that is: `json.dumps` of a small chat takes three and more."""

    async def whole(chunks: list[bytes]) -> None:
        """Never comes."""

    async def chunk_s(chunks: Many | _CollectedChunks) -> float:
        began = time.perf_counter()
        async for _ in chunks:
            pass
        return (time.perf_counter() - began) / 20_000

    plain_s = min([await chunk_s(Many()) for _ in range(5)])
    collected_s = min([await chunk_s(_CollectedChunks(Many(), whole, lambda: None)) for _ in range(5)])

    json_s = (
        min(timeit.repeat(lambda: json.dumps({"model": "chat", "messages": [{"role": "user"}]}), number=2000)) / 2000
    )
    assert collected_s - plain_s < 0.33 * json_s, (collected_s, plain_s, json_s)
