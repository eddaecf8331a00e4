"""Notes that all processes read, in Redis: a hash for each topic, whose values begin with the time when they end.

Redis 6.2 knows no time to live of a field: what is over is removed by whoever reads, and a hash that nobody reads ends
with the last of its notes.
"""

from collections.abc import Mapping
from typing import Any

from llmgateway.stores.base import Note, StoreAwayError
from llmgateway.stores.redis.connection import CommandError
from llmgateway.stores.redis.link import PREFIX, RedisLink

_CLOCK = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function read(value)
    local at = string.find(value, ':', 1, true)
    return tonumber(string.sub(value, 1, at - 1)) - now, string.sub(value, at + 1)
end
"""
# KEYS: the topic. ARGV: the note's name, its text, its time to live in ms, and the only text that it may replace.
_POST = (
    _CLOCK
    + """
local there = ARGV[4] and redis.call('HGET', KEYS[1], ARGV[1])
if there then
    local left, text = read(there)
    if left > 0 and text ~= ARGV[4] then return end
end
local ttl = tonumber(ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f:', now + ttl) .. ARGV[2])
if redis.call('PTTL', KEYS[1]) < ttl then redis.call('PEXPIRE', KEYS[1], ttl) end
"""
)
# KEYS: the topic. Returns names, texts and the ms that are left, one after the other.
_READ = (
    _CLOCK
    + """
local all, found = redis.call('HGETALL', KEYS[1]), {}
for at = 1, #all, 2 do
    local left, text = read(all[at + 1])
    if left > 0 then
        found[#found + 1], found[#found + 2], found[#found + 3] = all[at], text, left
    else
        redis.call('HDEL', KEYS[1], all[at])
    end
end
return found
"""
)


class RedisBoard:
    """A board over one link."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._post = link.script(_POST)
        self._read = link.script(_READ)

    def post(self, topic: str, name: str, text: bytes, ttl_s: float, *, instead_of: bytes | None = None) -> None:
        if not self._link.up:
            return  # sent when Redis is back it would hang for too long: whoever still knows it posts it again
        args: list[bytes | str | int | float] = [name, text, max(1, round(ttl_s * 1000))]
        self._link.send(self._post([_key(topic)], args if instead_of is None else [*args, instead_of]))

    async def read(self, topic: str) -> Mapping[str, Note]:
        (reply,) = await self._link.peek(self._read([_key(topic)]))
        if reply.__class__ is CommandError:
            raise StoreAwayError(f"Redis refuses: {reply}")
        return _notes(reply)


def _key(topic: str) -> str:
    return f"{PREFIX}board:{topic}"


def _notes(reply: list[Any]) -> dict[str, Note]:
    return {
        name.decode("utf-8", "replace"): Note(text, left_ms / 1000)
        for name, text, left_ms in zip(reply[::3], reply[1::3], reply[2::3], strict=True)
    }
