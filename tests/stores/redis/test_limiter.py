import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import anyio
import pytest
import redis

from llmgateway.stores.base import Ask, Claim, Held, Reservation, Rules, StoreAwayError
from llmgateway.stores.redis.limiter import RedisLimiter
from llmgateway.stores.redis.link import RedisLink
from tests.services import Server
from tests.stores.admitting import RULES
from tests.stores.conftest import StartLink
from tests.stores.rig import Rig, cooldown, purse, rate, slots
from tests.stores.waiting import until

ROOT = Path(__file__).resolve().parents[3]
EVERYTHING = Rules(
    rates=(rate(600, 100), rate(60_000, 10_000, unit="tokens")),
    slots=(slots(10),),
    cooldowns=(cooldown(30.0),),
    purses=(purse(10_000),),
)


async def test_pitfall_081_a_call_costs_one_round_trip_before_it_and_one_after(link: RedisLink) -> None:
    limiter = RedisLimiter(link)
    await limiter.seed(EVERYTHING.purses[0], 0)
    link.send(("SET", "llmgw:answer:1", b"kept", "PX", 10_000))
    assert await link.drain(5)
    before = link.round_trips
    ask = Ask("a", EVERYTHING, 100, 10, 30.0, (Rules(slots=(slots(5, "provider"),)),))

    decision, value = await limiter.reserve(ask, "answer:1")
    assert (decision.allowed, value, link.round_trips - before) == (True, b"kept", 1)
    limiter.settle(Reservation(ask, decision.choice), tokens=50, cost_nusd=5)
    assert await link.drain(5)
    assert link.round_trips - before == 2


async def test_pitfall_081_what_is_not_kept_is_claimed_on_the_same_way(link: RedisLink, client: "redis.Redis") -> None:
    limiter = RedisLimiter(link)
    ask = Ask("a", Rules(rates=(rate(60, 2),)), 0, 0, 30.0)
    mine, yours = Claim("flight:1", b"mine", 5.0), Claim("flight:1", b"yours", 5.0)
    before = link.round_trips

    decisions = [await limiter.reserve(ask, "answer:1", claim) for claim in (mine, yours, yours)]

    # Who may not pass is told as well: it gives back what it has.
    assert [(decision.allowed, found) for decision, found in decisions] == [
        *[(True, Held(b"mine"))] * 2,
        (False, Held(b"mine")),
    ]
    assert link.round_trips - before == 3
    assert 4000 < client.pttl("llmgw:flight:1") <= 5000
    client.set("llmgw:answer:1", b"kept")
    assert (await limiter.reserve(ask, "answer:1", yours))[1] == b"kept"
    client.delete("llmgw:answer:1")
    client.lpush("llmgw:answer:1", "what is this")
    assert (await limiter.reserve(ask, "answer:1", yours))[1] is None


async def test_many_settlements_go_together(link: RedisLink) -> None:
    rig = Rig(link)
    await rig.limiter.seed(EVERYTHING.purses[0], 0)
    for at in range(10):
        await rig.ask(str(at), EVERYTHING, nusd=10)
    before = link.round_trips

    for reservation in rig.held.values():
        rig.limiter.settle(reservation, tokens=0, cost_nusd=7)
    await rig.settled()

    assert link.round_trips - before == 1
    await until(lambda: len(rig.told) == 10)
    assert rig.told[-1] == ("budget:", 70)


async def test_every_key_has_our_prefix_and_an_end(link: RedisLink, client: "redis.Redis") -> None:
    limiter = RedisLimiter(link)
    await limiter.seed(EVERYTHING.purses[0], 0)
    asks = [Ask(str(at), EVERYTHING, 5000, 10, 30.0) for at in range(3)]
    decisions = [(await limiter.reserve(ask))[0] for ask in asks]
    limiter.settle(Reservation(asks[0], 0), tokens=9000, cost_nusd=5)
    assert await link.drain(5)

    kept = {key.decode(): client.pttl(key) for key in client.scan_iter("*") if key != b"llmgw:probe"}

    assert [decision.allowed for decision in decisions] == [True, True, False]
    assert len(kept) == 6
    assert all(key.startswith("llmgw:") and ttl_ms > 0 for key, ttl_ms in kept.items())


async def test_the_clock_is_that_of_redis(link: RedisLink, client: "redis.Redis") -> None:
    limiter = RedisLimiter(link)
    ask = Ask("a", Rules(rates=(rate(6, 1),)), 0, 0, 30.0)

    before = client.time()
    assert (await limiter.reserve(ask))[0].allowed
    after = client.time()
    state = client.get("llmgw:rate:requests")
    assert isinstance(state, bytes)
    at_us = int(state.split()[1])
    waits_s = [(await limiter.reserve(ask))[0].retry_after_s for _ in range(2)]

    assert before <= divmod(at_us, 1_000_000) <= after
    assert 10.0 > waits_s[0] > waits_s[1] > 0


async def test_a_redis_that_has_forgotten_everything_counts_from_the_beginning(
    start_link: StartLink, redis_service: Server
) -> None:
    link = await start_link(probe_every_s=0.05)
    rig = Rig(link)
    await rig.limiter.seed(EVERYTHING.purses[0], 10)
    await rig.ask("a", EVERYTHING, nusd=10)

    redis_service.stop()
    with pytest.raises(StoreAwayError):
        await rig.ask("b", EVERYTHING)
    redis_service.start()
    await until(lambda: link.up)
    await _answers(rig)

    decision = await rig.ask("c", EVERYTHING)
    assert (decision.allowed, list(decision.unseeded)) == (False, list(EVERYTHING.purses))
    await rig.settle("a", nusd=10)  # of a purse that nobody knows: the ledger will say it
    assert (await rig.look(EVERYTHING)).spent_nusd == [None]
    assert rig.told == []


async def _answers(rig: Rig) -> None:
    """Wait until Redis answers again: the first question finds that the connection is gone."""
    with anyio.fail_after(5):
        while True:
            try:
                await rig.look(Rules())
            except StoreAwayError:
                await anyio.sleep(0.01)
            else:
                return


async def test_scripts_that_redis_has_forgotten_are_loaded_again(link: RedisLink, client: "redis.Redis") -> None:
    rig = Rig(link)
    await rig.ask("a", Rules(slots=(slots(1),)))
    client.script_flush()

    assert not (await rig.ask("b", Rules(slots=(slots(1),)))).allowed
    client.script_flush()
    await rig.settle("a")
    assert (await rig.ask("b", Rules(slots=(slots(1),)))).allowed


async def test_pitfall_032_a_redis_that_forbids_scripts_is_away(
    start_link: StartLink, client: "redis.Redis", redis_service: Server
) -> None:
    client.acl_setuser("plain", enabled=True, passwords="+secret", keys="*", categories=["+@all", "-@scripting"])
    link = await start_link(redis_service.url.replace("//", "//plain:secret@"))
    limiter = RedisLimiter(link)

    for work in (limiter.reserve(Ask("a", EVERYTHING, 0, 0, 1.0)), limiter.look(EVERYTHING)):
        with pytest.raises(StoreAwayError):
            await work
    assert not link.up


async def test_a_counter_of_another_kind_is_an_error_and_not_a_guess(link: RedisLink, client: "redis.Redis") -> None:
    client.lpush("llmgw:rate:requests", "what is this")
    limiter = RedisLimiter(link)

    with pytest.raises(StoreAwayError, match="could not count"):
        await limiter.reserve(Ask("a", EVERYTHING, 0, 0, 1.0))


async def test_pitfall_023_callers_who_leave_while_redis_decides_leave_nothing_behind(link: RedisLink) -> None:
    rules = Rules(slots=(slots(2),), purses=(purse(100),))
    rig = Rig(link)
    await rig.limiter.seed(rules.purses[0], 0)
    for at in range(50):
        async with anyio.create_task_group() as group:
            group.start_soon(partial(rig.ask, str(at), rules, nusd=50))
            for _ in range(at % 4):
                await asyncio.sleep(0)
            group.cancel_scope.cancel()
    for name in list(rig.held):  # these had their answer before they left
        await rig.settle(name)
    await rig.settled()

    standing = await rig.look(rules)
    assert (standing.slots, standing.spent_nusd) == ([0], [0])


async def test_a_call_that_was_never_made_is_no_debt_of_tokens(link: RedisLink) -> None:
    rules = Rules(rates=(rate(60, 100, unit="tokens"),))
    rig = Rig(link)

    async with anyio.create_task_group() as group:
        group.start_soon(partial(rig.ask, "a", rules, tokens=5000))
        await asyncio.sleep(0)
        group.cancel_scope.cancel()
    await rig.settled()

    assert rig.held == {}
    # Nobody knows whether it took its 100 tokens, which come back within 100 s; those beyond it never used.
    assert (await rig.look(rules)).rates[0].reset_s in {0.0, 100.0}


async def test_a_purse_that_was_evicted_alone_knows_again_what_calls_in_flight_hold(
    link: RedisLink, client: "redis.Redis"
) -> None:
    rules = Rules(purses=(purse(100),))
    rig = Rig(link)
    await rig.limiter.seed(rules.purses[0], 0)
    await rig.ask("a", rules, nusd=30)
    await rig.ask("b", rules, nusd=20)

    client.delete("llmgw:budget:")
    await rig.limiter.seed(rules.purses[0], 5)
    assert (await rig.look(rules)).spent_nusd == [55]
    await rig.settle("a", nusd=10)
    assert (await rig.look(rules)).spent_nusd == [35]


async def test_money_whose_holders_were_evicted_comes_back(link: RedisLink, client: "redis.Redis") -> None:
    rules = Rules(purses=(purse(100),))
    rig = Rig(link)
    await rig.limiter.seed(rules.purses[0], 0)
    await rig.ask("a", rules, nusd=30)

    client.delete("llmgw:budget::held")
    assert (await rig.look(rules)).spent_nusd == [0]
    await rig.settle("a", nusd=10)
    assert (await rig.look(rules)).spent_nusd == [10]


async def test_pitfall_026_several_processes_share_one_limit(start_link: StartLink) -> None:
    """600 requests in 10 s at three workers: what passes is the burst and the rate, not three times that."""
    rigs = [Rig(await start_link()) for _ in range(3)]
    rules = Rules(rates=(rate(100, 17),))
    passed = 0
    for at in range(600):
        rig = rigs[at % 3]
        rig.now_s += 10 * at / 600
        passed += (await rig.ask(str(at), rules)).allowed
        rig.now_s -= 10 * at / 600

    assert passed == 17 + int(100 * 10 / 60)


def admitted(url: str, seconds: float) -> tuple[int, float]:
    """Let four processes ask; return how often they passed together, and in what time."""
    start = str(datetime.now(UTC).timestamp() + 3)
    command = [sys.executable, "-m", "tests.stores.admitting", url, start, str(seconds)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(4)]  # noqa: S603
    lines = [each.communicate(timeout=seconds + 30)[0].split() for each in processes]
    assert [each.returncode for each in processes] == [0] * 4
    return sum(int(line[0]) for line in lines), max(float(x[2]) for x in lines) - min(float(x[1]) for x in lines)


def check_admitted(url: str, seconds: float) -> None:
    passed, took_s = admitted(url, seconds)
    rule = RULES.rates[0]
    sys.stdout.write(f"{passed} passed in {took_s:.2f} s; {rule.burst + rule.limit * took_s / 60:.0f} may\n")

    assert passed <= rule.burst + rule.limit * took_s / 60
    # A process that the machine holds up begins late or ends late; the others ask as long as they should.
    assert passed >= 0.99 * (rule.burst + rule.limit * seconds / 60), (passed, took_s)


@pytest.mark.alone
def test_four_processes_admit_what_the_rule_says(redis_service: Server) -> None:
    check_admitted(redis_service.url, 2.0)


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(120)
def test_four_processes_admit_what_the_rule_says_over_a_minute(redis_service: Server) -> None:
    check_admitted(redis_service.url, 60.0)
