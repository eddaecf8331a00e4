import pytest

from llmgateway.stores.memory.values import MemoryValues


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_the_least_used_answers_go_first(clock: Clock) -> None:
    values = MemoryValues(max_bytes=5000, max_entries=3, clock=clock)
    for number in range(3):
        values.put(f"answer:{number}", b"x", 60.0)
    await values.get("answer:0")

    values.put("answer:3", b"x", 60.0)

    assert await values.get("answer:1") is None
    assert await values.get("answer:0") == b"x"
    assert (await values.status()).evictions == 1


class Thing:
    """Kept as it is."""

    size_bytes = 1000

    def packed(self) -> bytes:
        return b"packed"


async def test_an_object_stays_what_it_is_and_others_read_bytes(clock: Clock) -> None:
    values, thing = MemoryValues(clock=clock), Thing()
    values.put("answer:1", thing, 60.0, ["model:m"])

    assert values.find("answer:1") is thing
    assert (values.look("answer:1"), await values.get("answer:1")) == (b"packed", b"packed")
    assert (await values.status()).size_bytes > 1000
    assert await values.clear(["model:m"]) == 1
    assert values.find("answer:1") is None

    values.put("answer:1", thing, 60.0)
    clock.now_s += 60
    assert (values.find("answer:1"), len(values)) == (None, 0)


async def test_any_number_of_objects_stays_within_the_bound() -> None:
    values = MemoryValues(max_bytes=100_000, max_entries=10_000)
    for number in range(1000):
        values.put(f"answer:{number}", Thing(), 60.0)

    assert 30 < len(values) < 100
    assert (await values.status()).size_bytes <= 100_000


async def test_pitfall_052_any_number_of_answers_stays_within_the_bound() -> None:
    values = MemoryValues(max_bytes=1_000_000, max_entries=10_000)
    for number in range(20_000):
        values.put(f"answer:{number}", b"x" * 1000, 60.0)
    status = await values.status()

    assert status.size_bytes <= 1_000_000
    assert status.entries > 500
    assert (status.max_bytes, status.max_entries) == (1_000_000, 10_000)


async def test_an_answer_larger_than_the_bound_pushes_out_nothing() -> None:
    values = MemoryValues(max_bytes=5000)
    values.put("answer:small", b"x", 60.0)
    values.put("answer:large", b"x" * 6000, 60.0)

    assert await values.get("answer:small") == b"x"
    assert await values.get("answer:large") is None


async def test_claims_are_never_pushed_out_by_answers_or_other_values() -> None:
    values = MemoryValues(max_bytes=5000, max_entries=5, max_other_bytes=5000)
    await values.add("idem:claim", b"mine", 60.0)
    await values.add("answer:lead", b"mine", 60.0)

    for number in range(100):
        values.put(f"answer:{number}", b"x" * 1000, 60.0)
        values.put(f"idem:{number}", b"x" * 1000, 60.0)

    assert await values.add("idem:claim", b"yours", 60.0) == b"mine"
    assert await values.add("answer:lead", b"yours", 60.0) == b"mine"


async def test_time_is_that_of_the_clock(clock: Clock) -> None:
    values = MemoryValues(clock=clock)
    values.put("answer:1", b"x", 60.0)
    await values.add("claim", b"x", 30.0)
    clock.now_s += 29.0
    assert await values.renew("claim", b"x", 30.0)
    clock.now_s += 29.0

    assert await values.get("claim") == b"x"
    assert (await values.status()).oldest_s == 58.0
    clock.now_s += 2.0
    assert await values.get("claim") is None
    assert await values.get("answer:1") is None


async def test_what_is_over_is_swept_out_bit_by_bit(clock: Clock) -> None:
    values = MemoryValues(clock=clock)
    for number in range(1000):
        values.put(f"answer:{number}", b"x", 10.0 if number % 2 else 100.0)
    clock.now_s += 50.0

    for _ in range(6):
        values.sweep()

    assert (await values.status()).entries == 500


async def test_clearing_does_not_count_what_was_over(clock: Clock) -> None:
    values = MemoryValues(clock=clock)
    values.put("answer:over", b"x", 10.0)
    values.put("answer:there", b"x", 100.0)
    clock.now_s += 50.0

    assert await values.clear(()) == 1
    assert (await values.status()).entries == 0
    assert (await values.status()).oldest_s is None


async def test_clearing_thousands_lets_others_run() -> None:
    values = MemoryValues()
    for number in range(2000):
        values.put(f"answer:{number}", b"x", 60.0, ("model:gpt",))

    assert await values.clear(("model:gpt",)) == 2000
