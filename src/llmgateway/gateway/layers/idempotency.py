"""The same Idempotency-Key and the same body get the same answer, and one upstream call.

While a call runs its process holds a claim in the store, under a lease that `run` renews, so that the death of the
process frees the key. What is kept afterwards is the answer; errors and broken streams are not kept.
"""

import asyncio
import contextlib
import hashlib
import secrets
import time
import zlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Self

import msgspec
from msgspec import Struct

from llmgateway.errors import ConflictError, InvalidRequestError, ProviderTimeoutError
from llmgateway.exchange import Call, Chunks, Complete, Exchange, Header, Reply, Streamed
from llmgateway.gateway.target import Answering, Target
from llmgateway.stores.base import StoreAwayError, Values
from llmgateway.wire.sse import ENDS

MOST_BYTES = 8 * 1024 * 1024
_LONGEST_KEY = 255
_LEASE_S = 6.0
_SHORTEST_POLL_S, _LONGEST_POLL_S = 0.02, 0.25
_LARGE_BYTES = 256 * 1024
_COMPRESS_FROM_BYTES = 1024
# The first byte of what lies under a key; then comes the SHA-256 of the body.
_CLAIM, _PLAIN, _COMPRESSED = b"c", b"p", b"z"
_DIGEST_BYTES = 32


class _Kept(Struct, array_like=True, gc=False):
    """An answer: `body` of a whole one, `chunks` of a stream."""

    body: bytes = b""
    chunks: tuple[bytes, ...] = ()
    headers: tuple[Header, ...] = ()
    model: str | None = None
    provider: str | None = None
    upstream_model: str | None = None


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(_Kept).decode


class _Run:
    """A call of this process that others with the same key wait for, or its wait for another process.

    `decided` is set once it is known that its body is the one that the key stands for.
    """

    __slots__ = ("claim", "claimed", "decided", "digest", "ended", "kept", "place")

    def __init__(self, place: str, digest: bytes) -> None:
        self.place = place
        self.digest = digest
        self.claim = _CLAIM + digest + secrets.token_bytes(16)
        self.claimed = False
        self.decided = asyncio.Event()
        self.ended = asyncio.Event()
        self.kept: _Kept | None = None


class Idempotency:
    """Acts on exchanges with an `idempotency_key`. `run` must run beside it.

    Args:
        ttl_s: How long an answer is kept.
        lease_s: Seconds after which the key of a process that died is free.
    """

    def __init__(self, values: Values, ttl_s: float, target: Target, *, lease_s: float = _LEASE_S) -> None:
        self._values = values
        self._ttl_s = ttl_s
        self._target = target
        self._lease_s = lease_s
        self._running: dict[str, _Run] = {}

    def send(self, exchange: Exchange, call: Call) -> Answering:
        if exchange.idempotency_key is None:
            return self._target.send(exchange, call)
        return self._once(exchange, call, _place(exchange, _checked(exchange.idempotency_key)))

    async def _once(self, exchange: Exchange, call: Call, place: str) -> Reply:
        digest = await _digest(call.body)
        while (run := self._running.get(place)) is not None:
            kept = await _answer_of(run, digest, exchange.deadline)
            if kept is not None:
                return _replay(exchange, call, kept)
        run = self._running[place] = _Run(place, digest)
        try:
            kept = await self._claimed(run, exchange.deadline)
            if kept is not None:
                run.kept = kept
                self._end(run)
                return _replay(exchange, call, kept)
            exchange.at_end.append(partial(self._end, run))
            return await self._first(run, exchange, call)
        except BaseException:
            self._end(run)
            raise

    async def run(self) -> None:
        """Renew the claims of this process, for ever; cancel to end."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            for run in list(self._running.values()):
                if run.claimed and not run.ended.is_set():
                    await self._renew(run)

    async def _first(self, run: _Run, exchange: Exchange, call: Call) -> Reply:
        reply = await self._target.send(exchange, call)
        if isinstance(reply, Complete):
            await self._keep(run, exchange, reply, _Kept(body=reply.body))
            return reply

        async def whole(chunks: list[bytes]) -> None:
            await self._keep(run, exchange, reply, _Kept(chunks=tuple(chunks)))

        reply.chunks = _CollectedChunks(reply.chunks, whole, partial(self._end, run))
        return reply

    async def _claimed(self, run: _Run, deadline: float | None) -> _Kept | None:
        """Get hold of the key; if another process has or had it, wait for its answer and give that.

        Raises:
            ConflictError: It is taken by another body.
            ProviderTimeoutError: The deadline passed while waiting.
        """
        poll_s = _SHORTEST_POLL_S
        while True:
            try:
                there = await self._values.add(run.place, run.claim, self._lease_s)
                run.claimed = there is None
            except StoreAwayError:
                there = None  # within this process the key holds all the same
            if there is None:
                run.decided.set()
                return None
            if (kept := await self._read(run, there)) is not None:
                return kept
            if deadline is not None and time.perf_counter() + poll_s > deadline:
                raise _late()
            await asyncio.sleep(poll_s)
            poll_s = min(poll_s * 1.5, _LONGEST_POLL_S)

    async def _read(self, run: _Run, there: bytes) -> _Kept | None:
        """Give the answer that lies there, `None` when there is only a claim. Raises: ConflictError."""
        if there[1 : 1 + _DIGEST_BYTES] != run.digest:
            raise _conflict()
        run.decided.set()
        if there[:1] == _CLAIM:
            return None
        kept = await _unpacked(there)
        if kept is None:  # of another version, and as good as none
            with contextlib.suppress(StoreAwayError):
                await self._values.remove(run.place, there)
        return kept

    async def _keep(self, run: _Run, exchange: Exchange, reply: Reply, kept: _Kept) -> None:
        if run.ended.is_set():
            return
        kept = msgspec.structs.replace(
            kept,
            headers=tuple(reply.headers),
            model=reply.model,
            provider=exchange.provider,
            upstream_model=exchange.upstream_model,
        )
        size_bytes = len(kept.body) + sum(map(len, kept.chunks))
        if size_bytes <= MOST_BYTES:
            pack = partial(_packed, run.digest, kept)
            value = pack() if size_bytes <= _LARGE_BYTES else await asyncio.to_thread(pack)
            self._values.put(run.place, value, self._ttl_s)
            run.kept = kept
        self._end(run)

    async def _renew(self, run: _Run) -> None:
        try:
            if not await self._values.renew(run.place, run.claim, self._lease_s) and not run.ended.is_set():
                # A store that was restarted has forgotten it.
                await self._values.add(run.place, run.claim, self._lease_s)
        except StoreAwayError:
            return  # the lease goes on for a while, and the next turn comes before its end

    def _end(self, run: _Run) -> None:
        """Let go of the key, and wake whoever waits for it; a second call does nothing."""
        if run.ended.is_set():
            return
        if self._running.get(run.place) is run:
            del self._running[run.place]
        if run.kept is None:
            # Whether it was taken or not: who left while claiming it never heard.
            self._values.release(run.place, run.claim)
        run.ended.set()
        run.decided.set()


class _CollectedChunks:
    """Passes a stream on and keeps its chunks, as long as they are few enough."""

    __slots__ = ("_chunks", "_closed", "_kept", "_next", "_size_bytes", "_whole")

    def __init__(
        self, chunks: Chunks, whole: Callable[[list[bytes]], Awaitable[None]], closed: Callable[[], None]
    ) -> None:
        self._chunks = chunks
        self._next = chunks.__anext__
        self._whole = whole
        self._closed = closed
        self._kept: list[bytes] = []
        self._size_bytes = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._next()
        self._size_bytes += len(chunk)
        if self._size_bytes <= MOST_BYTES:
            self._kept.append(chunk)
            if chunk.endswith(ENDS):
                await self._whole(self._kept)
        elif self._kept:
            self._kept = []
        return chunk

    async def aclose(self) -> None:
        self._closed()
        await self._chunks.aclose()


class _ReplayedChunks:
    """The chunks of a stream that was kept."""

    __slots__ = ("_chunks",)

    def __init__(self, chunks: tuple[bytes, ...]) -> None:
        self._chunks = iter(chunks)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._chunks = iter(())


def _checked(key: str) -> str:
    if not (0 < len(key) <= _LONGEST_KEY and key.isprintable()):
        raise InvalidRequestError(
            f"Idempotency-Key must be 1 to {_LONGEST_KEY} printable characters, such as a UUID.",
            param="Idempotency-Key",
        )
    return key


def _place(exchange: Exchange, key: str) -> str:
    """Name where the answer lies: nobody finds it who is not the same caller."""
    caller = exchange.caller
    # Who acts for several organizations has keys for each.
    # Who brings a provider's key is known by the address alone, which others may have as well.
    scope = (caller.kind, caller.key_id, caller.provider_key, exchange.organization, exchange.path, key)
    return "idem:" + hashlib.sha256(_ENCODE(scope)).hexdigest()


async def _digest(body: bytes) -> bytes:
    if len(body) > _LARGE_BYTES:
        return (await asyncio.to_thread(hashlib.sha256, body)).digest()
    return hashlib.sha256(body).digest()


async def _answer_of(run: _Run, digest: bytes, deadline: float | None) -> _Kept | None:
    """Wait for a call of this process. Raises: ConflictError, ProviderTimeoutError."""
    same = run.digest == digest
    try:
        async with asyncio.timeout(None if deadline is None else max(0.0, deadline - time.perf_counter())):
            await (run.ended if same else run.decided).wait()
    except TimeoutError:
        raise _late() from None
    if not same and (run.kept is not None or not run.ended.is_set()):
        raise _conflict()
    return run.kept


def _replay(exchange: Exchange, call: Call, kept: _Kept) -> Reply:
    exchange.replayed = True
    exchange.cost_usd = 0.0
    exchange.provider, exchange.upstream_model = kept.provider, kept.upstream_model
    headers = list(kept.headers)
    # The body says which it is, so the same body means the same kind of answer.
    if call.stream:
        return Streamed(_ReplayedChunks(kept.chunks), headers=headers, model=kept.model)
    return Complete(kept.body, headers=headers, model=kept.model)


def _packed(digest: bytes, kept: _Kept) -> bytes:
    packed, form = _ENCODE(kept), _PLAIN
    if len(packed) > _COMPRESS_FROM_BYTES:
        packed, form = zlib.compress(packed, 1), _COMPRESSED
    return form + digest + packed


async def _unpacked(value: bytes) -> _Kept | None:
    if len(value) > _LARGE_BYTES:
        return await asyncio.to_thread(_unpack, value)
    return _unpack(value)


def _unpack(value: bytes) -> _Kept | None:
    form, packed = value[:1], value[1 + _DIGEST_BYTES :]
    try:
        if form == _COMPRESSED:
            packed = zlib.decompress(packed)
        elif form != _PLAIN:
            return None
        return _DECODE(packed)
    except (zlib.error, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _conflict() -> ConflictError:
    return ConflictError(
        "This Idempotency-Key was used for another body: send the same body again, or a new key.",
        param="Idempotency-Key",
        code="idempotency_conflict",
    )


def _late() -> ProviderTimeoutError:
    return ProviderTimeoutError("The first request with this Idempotency-Key is not complete yet: ask again later.")
