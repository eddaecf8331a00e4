"""What values do alike, in memory and in Redis, and what only Redis does."""

from collections.abc import AsyncIterator

import pytest
import redis

from llmgateway.stores.base import Claim, Held, StoreAwayError, Values
from llmgateway.stores.memory.values import MemoryValues
from llmgateway.stores.redis.link import RedisLink
from llmgateway.stores.redis.values import RedisValues
from tests.services import Server
from tests.stores.conftest import StartLink
from tests.stores.waiting import until


class Kept:
    """Values, and a way to wait until what was put is there."""

    def __init__(self, values: Values, link: RedisLink | None = None) -> None:
        self.values = values
        self._link = link

    async def put(self, key: str, value: bytes, ttl_s: float = 60.0, tags: tuple[str, ...] = ()) -> None:
        self.values.put(key, value, ttl_s, tags)
        if self._link is not None:
            assert await self._link.drain()

    async def release(self, key: str, value: bytes) -> None:
        self.values.release(key, value)
        if self._link is not None:
            assert await self._link.drain()


@pytest.fixture(params=["memory", "redis"])
async def kept(request: pytest.FixtureRequest, start_link: StartLink) -> AsyncIterator[Kept]:
    if request.param == "memory":
        yield Kept(MemoryValues())
        return
    link = await start_link()
    yield Kept(RedisValues(link), link)


@pytest.fixture
def values(kept: Kept) -> Values:
    return kept.values


async def test_a_value_is_kept_and_forgotten(kept: Kept, values: Values) -> None:
    await kept.put("answer:1", b"\x00yes")
    await kept.put("other", b"no")

    assert await values.get("answer:1") == b"\x00yes"
    assert await values.get("other") == b"no"
    assert await values.get("answer:2") is None
    await values.remove("answer:1")
    assert await values.get("answer:1") is None


async def test_a_value_ends_with_its_time(kept: Kept, values: Values) -> None:
    await kept.put("answer:short", b"x", ttl_s=0.05)
    await kept.put("other", b"x", ttl_s=0.05)

    await gone(values, "answer:short")
    await gone(values, "other")
    assert (await values.status()).entries == 0 or isinstance(values, MemoryValues)


async def gone(values: Values, key: str) -> None:
    seen: list[bytes | None] = [b""]
    while seen[-1] is not None:
        seen.append(await values.get(key))


async def test_a_claim_is_had_by_one(values: Values) -> None:
    assert await values.add("claim", b"mine", 60.0) is None
    assert await values.add("claim", b"yours", 60.0) == b"mine"

    assert not await values.renew("claim", b"yours", 60.0)
    assert await values.renew("claim", b"mine", 60.0)
    await values.remove("claim", b"yours")
    assert await values.get("claim") == b"mine"
    await values.remove("claim", b"mine")
    assert await values.add("claim", b"yours", 60.0) is None


async def test_what_is_not_kept_is_claimed_by_the_first_who_asks(kept: Kept, values: Values) -> None:
    mine, yours = Claim("flight:1", b"mine", 60.0), Claim("flight:1", b"yours", 60.0)

    assert await values.get_or_claim("answer:1", mine) == Held(b"mine")
    assert await values.get_or_claim("answer:1", yours) == Held(b"mine")
    assert await values.get_or_claim("answer:1", mine) == Held(b"mine")
    await kept.put("answer:1", b"\x00yes")
    assert await values.get_or_claim("answer:1", yours) == b"\x00yes"
    assert await values.get_or_claim("answer:2", Claim("flight:2", b"short", 0.05)) == Held(b"short")
    await gone(values, "flight:2")


async def test_a_claim_is_given_back_by_who_has_it_alone(kept: Kept, values: Values) -> None:
    await values.get_or_claim("answer:1", Claim("flight:1", b"mine", 60.0))

    await kept.release("flight:1", b"yours")
    assert await values.get("flight:1") == b"mine"
    await kept.release("flight:1", b"mine")
    assert await values.get_or_claim("answer:1", Claim("flight:1", b"yours", 60.0)) == Held(b"yours")


async def test_a_claim_ends_with_its_lease_unless_it_is_renewed(values: Values) -> None:
    await values.add("left", b"mine", 0.05)
    await values.add("renewed", b"mine", 0.05)
    assert await values.renew("renewed", b"mine", 60.0)

    await gone(values, "left")
    assert await values.get("renewed") == b"mine"
    assert not await values.renew("left", b"mine", 60.0)


async def test_what_is_put_replaces_a_claim(kept: Kept, values: Values) -> None:
    await values.add("idem:1", b"claim", 60.0)
    await kept.put("idem:1", b"answer")

    assert await values.add("idem:1", b"claim", 60.0) == b"answer"


async def filled(kept: Kept) -> None:
    for user in ("ann", "bob"):
        for model in ("gpt", "claude"):
            for number in range(3):
                key = f"answer:{user}{model}{number}"
                name = f"name:{user}_{model}_{number}"
                await kept.put(key, b"x" * 100, tags=(f"user:{user}", f"model:{model}", name))
    await kept.put("idem:ann", b"x")


@pytest.mark.parametrize(
    ("tags", "pattern", "cleared"),
    [
        ((), None, 12),
        (("user:ann",), None, 6),
        (("user:ann", "model:gpt"), None, 3),
        (("user:ann", "user:bob"), None, 0),
        (("user:nobody",), None, 0),
        ((), "*_gpt_*", 6),
        ((), "ann_*_[01]", 4),
        (("model:claude",), "bob_*", 3),
        (("name:bob_gpt_2",), None, 1),
        ((), "nothing*", 0),
    ],
)
async def test_answers_are_cleared_by_all_their_tags_and_a_pattern(
    kept: Kept, tags: tuple[str, ...], pattern: str | None, cleared: int
) -> None:
    await filled(kept)

    assert await kept.values.clear(tags, pattern) == cleared
    assert (await kept.values.status()).entries == 12 - cleared
    assert await kept.values.clear(tags, pattern) == 0
    assert await kept.values.get("idem:ann") == b"x"


async def test_status_counts_the_answers_and_their_size(kept: Kept) -> None:
    assert (await kept.values.status()).entries == 0
    await filled(kept)
    status = await kept.values.status()

    assert status.entries == 12
    assert 1200 <= status.size_bytes <= 12 * 700


async def test_many_answers_are_cleared_in_batches(start_link: StartLink, client: "redis.Redis") -> None:
    link = await start_link()
    values = RedisValues(link)
    for number in range(3000):
        values.put(f"answer:{number}", b"x", 60.0, ("model:gpt", f"name:n_{number}"))
    assert await link.drain()
    before = link.round_trips

    assert await values.clear(("model:gpt",), "n_*[02468]") == 1500

    assert link.round_trips - before >= 2 * 1500 / 500
    assert (await values.status()).entries == 1500
    assert client.exists("llmgw:answer:0", "llmgw:answer:1") == 1


async def test_every_key_in_redis_is_ours_and_has_an_end(start_link: StartLink, client: "redis.Redis") -> None:
    link = await start_link()
    await filled(Kept(RedisValues(link), link))
    await RedisValues(link).add("claim", b"x", 5.0)

    keys = [key for key in client.keys("*") if isinstance(key, bytes)]

    assert len(keys) > 15
    assert all(key.startswith(b"llmgw:") for key in keys)
    assert all(0 < client.pttl(key) <= 60_000 for key in keys)


async def test_an_index_lives_as_long_as_its_longest_answer(start_link: StartLink, client: "redis.Redis") -> None:
    link = await start_link()
    kept = Kept(RedisValues(link), link)
    await kept.put("answer:long", b"x", ttl_s=600.0, tags=("model:gpt",))
    await kept.put("answer:short", b"x", ttl_s=1.0, tags=("model:gpt",))

    assert client.pttl("llmgw:tag:model:gpt") > 500_000


async def test_a_redis_that_is_away_is_told_and_what_is_put_is_not_kept(
    redis_service: Server, start_link: StartLink
) -> None:
    link = await start_link(probe_every_s=0.05)
    values = RedisValues(link)
    redis_service.stop()
    await until(lambda: not link.up)

    values.put("answer:1", b"x", 60.0)
    with pytest.raises(StoreAwayError):
        await values.get("answer:1")
    with pytest.raises(StoreAwayError):
        await values.add("claim", b"x", 1.0)
    redis_service.start()
    await until(lambda: link.up)
    assert await values.get("answer:1") is None


async def test_a_value_of_another_kind_is_an_error(link: RedisLink, client: "redis.Redis") -> None:
    client.rpush("llmgw:list", "x")

    with pytest.raises(StoreAwayError, match="WRONGTYPE"):
        await RedisValues(link).get("list")
