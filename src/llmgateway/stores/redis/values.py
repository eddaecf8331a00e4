"""Bytes with a time to live, in Redis.

An answer is written down in one index for each of its tags and in one for all: a sorted set by the time when it ends,
whose members are the answer's key and name. Redis bounds its own memory (`maxmemory`, `allkeys-lru`); what it threw out
is forgotten by the indexes when its time is over.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from llmgateway.stores.base import Claim, Held, StoreAwayError, ValuesStatus
from llmgateway.stores.redis.connection import Command, CommandError
from llmgateway.stores.redis.link import PREFIX, RedisLink

ANSWERS = "answer:"
NAME = "name:"
_INDEX = f"{PREFIX}answers"
_BATCH = 500
_SAMPLE = 100

# KEYS: the value, then its indexes. ARGV: the value, its time to live in ms, its member in the indexes.
_PUT = """
local time = redis.call('TIME')
local now, ttl = time[1] * 1000 + math.floor(time[2] / 1000), tonumber(ARGV[2])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ttl)
for at = 2, #KEYS do
    redis.call('ZREMRANGEBYSCORE', KEYS[at], '-inf', now)
    redis.call('ZADD', KEYS[at], now + ttl, ARGV[3])
    if redis.call('PTTL', KEYS[at]) < ttl then redis.call('PEXPIRE', KEYS[at], ttl) end
end
"""
# `SET NX GET` is younger than Redis 6.2.
_ADD = """
local there = redis.call('GET', KEYS[1])
if not there then redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end
return there
"""
# KEYS: the value, its claim. ARGV: who claims it, for how many ms. A table is the claim's holder, else it is the value.
_CLAIM = """
local there = redis.call('GET', KEYS[1])
if there then return there end
local holder = redis.call('GET', KEYS[2])
if holder and holder ~= ARGV[1] then return {holder} end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {ARGV[1]}
"""
_RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_REMOVE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""
_COUNT = """
local time = redis.call('TIME')
return redis.call('ZCOUNT', KEYS[1], time[1] * 1000, '+inf')
"""


class Reading:
    """Reads a value, or claims it where there is none: one command, which may go along with others."""

    def __init__(self, link: RedisLink) -> None:
        self._claim = link.script(_CLAIM)

    def command(self, key: str, claim: Claim | None) -> Command:
        if claim is None:
            return ("GET", PREFIX + key)
        return self._claim([PREFIX + key, PREFIX + claim.key], [claim.holder, _ms(claim.ttl_s)])

    @staticmethod
    def found(reply: Any) -> bytes | Held | None:
        """Put its reply into words."""
        found: bytes | Held | None = Held(reply[0]) if reply.__class__ is list else reply
        return found


class RedisValues:
    """Values that all processes share."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._reading = Reading(link)
        self._put = link.script(_PUT)
        self._add = link.script(_ADD)
        self._renew = link.script(_RENEW)
        self._remove = link.script(_REMOVE)
        self._count = link.script(_COUNT)

    async def get(self, key: str) -> bytes | None:
        found: bytes | None = _checked((await self._link.ask(("GET", PREFIX + key)))[0])
        return found

    async def get_or_claim(self, key: str, claim: Claim) -> bytes | Held | None:
        return Reading.found(_checked((await self._link.ask(self._reading.command(key, claim)))[0]))

    def put(self, key: str, value: bytes, ttl_s: float, tags: Sequence[str] = ()) -> None:
        if not self._link.up:
            return  # it would only keep what matters more from finding room
        if not key.startswith(ANSWERS):
            self._link.send(("SET", PREFIX + key, value, "PX", _ms(ttl_s)))
            return
        name = next((tag.removeprefix(NAME) for tag in tags if tag.startswith(NAME)), "")
        indexes = [_tagged(tag) for tag in tags if not tag.startswith(NAME)]
        self._link.send(self._put([PREFIX + key, _INDEX, *indexes], [value, _ms(ttl_s), f"{key}\n{name}"]))

    async def add(self, key: str, value: bytes, ttl_s: float) -> bytes | None:
        found: bytes | None = _checked((await self._link.ask(self._add([PREFIX + key], [value, _ms(ttl_s)])))[0])
        return found

    async def renew(self, key: str, value: bytes, ttl_s: float) -> bool:
        return bool(_checked((await self._link.ask(self._renew([PREFIX + key], [value, _ms(ttl_s)])))[0]))

    def release(self, key: str, value: bytes) -> None:
        if self._link.up:
            self._link.send(self._remove([PREFIX + key], [value]))

    async def remove(self, key: str, value: bytes | None = None) -> None:
        command = ("DEL", PREFIX + key) if value is None else self._remove([PREFIX + key], [value])
        _checked((await self._link.ask(command))[0])

    async def clear(self, tags: Sequence[str], pattern: str | None = None) -> int:
        names = [tag.removeprefix(NAME) for tag in tags if tag.startswith(NAME)]
        indexes = [_tagged(tag) for tag in tags if not tag.startswith(NAME)] or [_INDEX]
        cursor: Any = 0
        cleared = 0
        while True:
            scanned = _checked((await self._link.ask(("ZSCAN", indexes[0], cursor, "COUNT", _BATCH)))[0])
            cursor, members = scanned[0], scanned[1][::2]
            members = [member for member in members if _is_meant(member, names, pattern)]
            for index in indexes[1:]:
                members = await self._also_in(index, members)
            if members:
                cleared += await self._forget(members, {*indexes, _INDEX})
            if cursor in {b"0", "0"}:
                return cleared

    async def status(self) -> ValuesStatus:
        """Count the answers; their size is reckoned from a sample of them."""
        count, sample = (
            _checked(each) for each in await self._link.ask(self._count([_INDEX]), ("ZRANDMEMBER", _INDEX, _SAMPLE))
        )
        sizes_bytes = []
        if sample:
            lengths = await self._link.ask(*[("STRLEN", _value_key(member)) for member in sample])
            sizes_bytes = [size_bytes for size_bytes in map(_checked, lengths) if size_bytes]
        mean_bytes = sum(sizes_bytes) / len(sizes_bytes) if sizes_bytes else 0.0
        return ValuesStatus(entries=int(count), size_bytes=round(mean_bytes * int(count)))

    async def _also_in(self, index: str, members: list[bytes]) -> list[bytes]:
        if not members:
            return members
        scores = _checked((await self._link.ask(("ZMSCORE", index, *members)))[0])
        return [member for member, score in zip(members, scores, strict=True) if score is not None]

    async def _forget(self, members: Sequence[bytes], indexes: set[str]) -> int:
        removals: list[Command] = [("ZREM", index, *members) for index in sorted(indexes)]
        removed, *others = await self._link.ask(("UNLINK", *map(_value_key, members)), *removals)
        for reply in others:
            _checked(reply)
        return int(_checked(removed))


def _tagged(tag: str) -> str:
    return f"{PREFIX}tag:{tag}"


def _value_key(member: bytes) -> bytes:
    return PREFIX.encode() + member.partition(b"\n")[0]


def _is_meant(member: bytes, names: Sequence[str], pattern: str | None) -> bool:
    name = member.partition(b"\n")[2].decode()
    return all(name == each for each in names) and (pattern is None or fnmatchcase(name, pattern))


def _ms(ttl_s: float) -> int:
    return max(1, round(ttl_s * 1000))


def _checked(reply: Any) -> Any:
    """Give a reply that is no error. Raises: StoreAwayError."""
    if reply.__class__ is CommandError:
        raise StoreAwayError(f"Redis refuses: {reply}")
    return reply
