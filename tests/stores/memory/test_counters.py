from llmgateway.stores.base import Ask, Rules
from llmgateway.stores.memory.counters import UNKNOWN, Account, Bucket, Leases, Rest, pour, take_back
from tests.stores.rig import cooldown, purse, rate, slots

SECOND, DAY = 1_000_000, 86_400_000_000
NOW = 1_800_000_000 * SECOND


def asking(name: str = "a", *, tokens: int = 0, nusd: int = 0, lease_s: float = 10.0) -> Ask:
    return Ask(name, Rules(), tokens, nusd, lease_s)


def test_the_short_way_and_the_long_way_say_the_same() -> None:
    short, long = Bucket(rate(60, 2), NOW), Bucket(rate(60, 2), NOW)
    for at in range(20):
        now_us = NOW + at * SECOND // 3
        states = pour([[short]], 0, now_us)

        assert (states is not None) == (long.wait_us(asking(), now_us) == 0)
        if states is not None:
            long.level += long.cost
            assert states == [long.state()]
        short.sink(now_us)
        assert short.level == long.level


def test_a_call_is_added_to_all_buckets_or_to_none() -> None:
    wide, narrow = Bucket(rate(600, 20, unit="tokens"), NOW), Bucket(rate(60, 9, unit="tokens"), NOW)

    assert pour([[wide, narrow]], 6, NOW) == [narrow.state()]
    assert pour([[wide, narrow]], 6, NOW) is None
    assert (wide.state().remaining, narrow.state().remaining) == (14, 3)
    take_back([wide, narrow], 6)
    assert (wide.level, narrow.level) == (0, 0)


def test_a_refusal_while_the_clock_is_back_gives_nothing_away() -> None:
    full, other = Bucket(rate(60, 60), NOW), Bucket(rate(600, 600, unit="tokens"), NOW)
    full.level = full.full

    assert pour([[full], [other]], 6, NOW - 60 * SECOND) is None
    assert pour([[full], [other]], 6, NOW) is None
    assert (full.level, full.last_us, other.level) == (full.full, NOW, 0)


def test_of_two_as_tight_the_first_is_told() -> None:
    first, second = Bucket(rate(60, 5), NOW), Bucket(rate(6000, 5), NOW)

    assert pour([[first, second]], 0, NOW) == [first.state()]
    assert (first.state().rate.limit, first.state().remaining) == (60, 4)


def test_a_bucket_is_idle_when_nothing_is_left_in_it() -> None:
    bucket = Bucket(rate(60, 2), NOW)
    bucket.level += bucket.cost

    assert not bucket.idle(NOW + SECOND - 1)
    assert bucket.idle(NOW + SECOND)


def test_a_bucket_learns_whether_its_rule_says_anything_else() -> None:
    bucket = Bucket(rate(60, 2), NOW)

    assert not bucket.adopt(rate(60, 2))
    assert bucket.adopt(rate(60, 3))
    assert bucket.burst == 3


def test_leases_end_in_any_order() -> None:
    leases = Leases(slots(5), NOW)
    for name, lease_s in (("a", 30.0), ("b", 10.0), ("c", 20.0)):
        leases.take(asking(name, lease_s=lease_s), NOW)

    assert [leases.count(NOW + at * SECOND) for at in (9, 10, 20, 30)] == [3, 2, 1, 0]
    assert leases.idle(NOW + 30 * SECOND)
    assert leases.adopt(slots(6))


def test_a_rest_counts_the_last_refusals_only() -> None:
    rest = Rest(cooldown(30.0, after=2, within_s=10.0), NOW)

    assert rest.refuse(NOW) == 0
    assert rest.refuse(NOW + 11 * SECOND) == 0
    assert not rest.idle(NOW + 12 * SECOND)
    assert rest.refuse(NOW + 12 * SECOND) == 30 * SECOND
    assert not rest.idle(NOW + 13 * SECOND)
    assert rest.idle(NOW + 42 * SECOND)
    assert rest.adopt(cooldown(1.0))


def test_a_rest_is_never_longer_than_its_rule_says() -> None:
    rest = Rest(cooldown(30.0, after=1), NOW)
    rest.refuse(NOW)

    assert rest.left_us(NOW - 3600 * SECOND) == 30 * SECOND
    assert rest.left_us(NOW - 3570 * SECOND) == 0


def test_a_purse_is_kept_a_day_longer_than_its_period() -> None:
    ended, endless = Account(purse(10, NOW / SECOND), NOW), Account(purse(10), NOW)

    assert ended.idle(NOW)
    assert ended.wait_us(asking(), NOW) == UNKNOWN
    ended.spent_nusd = endless.spent_nusd = 0
    assert not ended.idle(NOW + DAY)
    assert ended.idle(NOW + DAY + 1)
    assert not endless.idle(NOW + 7 * DAY)
    assert endless.idle(NOW + 7 * DAY + 1)
    assert ended.adopt(purse(11))


def test_a_purse_that_was_forgotten_is_not_told_of_a_call_alone() -> None:
    account = Account(purse(10), NOW)

    assert account.settle("a", 5, NOW) is None
    assert account.spent_nusd is None
