"""Questions that wait for each other (pitfall 54): within a process, and between two over one store."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import pytest
from anyio.abc import TaskGroup
from typing_extensions import override

from llmgateway.errors import ProviderTimeoutError
from llmgateway.gateway import coalescing
from llmgateway.gateway.answers.entry import Kept, pack, unpack
from llmgateway.gateway.coalescing import Flights, Joined, Lead
from llmgateway.stores.base import Held, StoreAwayError
from llmgateway.stores.memory.values import MemoryValues

KEY = "answer:1"
ANSWER = Kept(body=b'{"choices":[]}')


@dataclass
class Asking:
    """One that joins, in a task of its own."""

    task: "asyncio.Task[Joined]"

    @property
    async def joined(self) -> Joined:
        with anyio.fail_after(3):
            return await self.task

    @property
    async def lead(self) -> Lead:
        joined = await self.joined
        assert isinstance(joined, Lead)
        return joined


def asks(flights: Flights, deadline: float | None = None) -> Asking:
    return Asking(asyncio.ensure_future(flights.join(KEY, deadline)))


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def process(values: MemoryValues | None = None, lease_s: float = 5.0) -> Flights:
    shared = values is not None
    return Flights(MemoryValues() if values is None else values, unpack, shared=lambda: shared, lease_s=lease_s)


@asynccontextmanager
async def running(*flights: Flights) -> AsyncIterator[TaskGroup]:
    async with anyio.create_task_group() as group:
        for each in flights:
            group.start_soon(each.run)
        yield group
        group.cancel_scope.cancel()


async def test_pitfall_054_one_leads_and_all_others_have_its_answer() -> None:
    flights = process()
    lead = await asks(flights).lead
    others = [asks(flights) for _ in range(99)]
    await turns()

    lead.land(ANSWER)
    late = asks(flights)
    await turns()
    lead.done(kept=True)

    assert [await other.joined for other in [*others, late]] == [ANSWER] * 100
    assert len(flights) == 0


async def test_whoever_asks_alone_leads_at_once() -> None:
    flights = process()
    lead = flights.lead(KEY)
    assert lead is not None
    assert flights.lead(KEY) is None
    other = asks(flights)
    await turns()

    lead.land(ANSWER)

    assert await other.joined == ANSWER
    assert flights.lead(KEY) is None
    lead.done(kept=True)
    assert flights.lead(KEY) is not None


async def test_where_other_processes_are_nobody_leads_at_once() -> None:
    assert process(MemoryValues()).lead(KEY) is None


async def test_a_lead_that_nobody_waits_for_holds_no_stream() -> None:
    lead, passing = Lead(), Stream(waits=True)

    lead.watch(passing)
    lead.land(ANSWER)
    lead.fail()
    lead.leave()
    lead.done(kept=True)

    assert lead.stream is None


async def test_after_the_end_somebody_else_leads() -> None:
    flights = process()
    lead = await asks(flights).lead
    lead.land(ANSWER)
    lead.done(kept=True)

    assert await asks(flights).lead is not lead


async def test_different_questions_do_not_wait_for_each_other() -> None:
    flights = process()

    assert isinstance(await flights.join("answer:1"), Lead)
    assert isinstance(await flights.join("answer:2"), Lead)


async def test_when_the_leader_fails_each_asks_for_itself() -> None:
    flights = process()
    lead = await asks(flights).lead
    others = [asks(flights) for _ in range(3)]
    await turns()

    lead.fail()

    assert [await other.joined for other in others] == [None] * 3
    assert len(flights) == 0


async def test_when_the_leader_leaves_one_of_those_who_wait_leads() -> None:
    flights = process()
    lead = await asks(flights).lead
    first, second = asks(flights), asks(flights)
    await turns()

    lead.leave()
    new = await first.lead
    new.land(ANSWER)
    new.done(kept=True)

    assert await second.joined == ANSWER
    lead.fail()  # of no meaning any more
    assert len(flights) == 0


async def test_a_leader_who_leaves_alone_leaves_nothing_behind() -> None:
    flights = process()
    lead = await asks(flights).lead

    lead.leave()
    lead.leave()

    assert len(flights) == 0


async def test_pitfall_054_one_who_waits_may_leave_and_nobody_notices() -> None:
    flights = process()
    lead = await asks(flights).lead
    leaves, stays = asks(flights), asks(flights)
    await turns()

    leaves.task.cancel()
    await turns()
    lead.land(ANSWER)

    assert await stays.joined == ANSWER
    with pytest.raises(asyncio.CancelledError):
        await leaves.task


async def test_one_chosen_to_lead_that_leaves_at_that_moment_hands_it_on() -> None:
    flights = process()
    lead = await asks(flights).lead
    chosen, other = asks(flights), asks(flights)
    await turns()

    lead.leave()
    chosen.task.cancel()

    assert isinstance(await other.lead, Lead)


async def test_nobody_waits_beyond_his_deadline() -> None:
    flights = process()
    lead = await asks(flights).lead

    with pytest.raises(ProviderTimeoutError):
        await asks(flights, time.perf_counter() + 0.02).joined

    lead.leave()
    assert len(flights) == 0


@dataclass
class Stream:
    waits: bool
    moves: int = 7


@pytest.mark.parametrize("waits", [False, True])
async def test_a_leader_whose_client_does_not_read_loses_the_lead(waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalescing, "_STALLED_S", 0.02)
    flights = process()
    old = await asks(flights).lead
    old.stream = Stream(waits)
    other = asks(flights, time.perf_counter() + 0.1)

    if waits:
        with pytest.raises(ProviderTimeoutError):
            await other.joined
        return
    assert await other.lead is not old
    old.leave()
    assert len(flights) == 1


async def test_an_old_leader_that_comes_to_the_end_all_the_same_is_heard() -> None:
    flights = process()
    old = await asks(flights).lead
    other, third = asks(flights), asks(flights)
    await turns()
    old.leave()
    new = await other.lead

    old.land(ANSWER)
    old.done(kept=True)
    new.fail()

    assert await third.joined == ANSWER
    assert len(flights) == 0


# Two processes, as two tables of flights over one store.


async def reserves(flights: Flights, values: MemoryValues, name: str) -> bytes | None:
    """Claim a question, as who asks for leave does beforehand; gives who has it."""
    claim = flights.claim(KEY, name)
    assert claim is not None
    held = await values.get_or_claim(KEY, claim)
    return held.holder if isinstance(held, Held) else None


class Counting(MemoryValues):
    asked = 0

    @override
    async def add(self, key: str, value: bytes, ttl_s: float) -> bytes | None:
        self.asked += 1
        return await super().add(key, value, ttl_s)


async def test_pitfall_081_who_has_the_claim_already_leads_and_asks_nobody() -> None:
    values = Counting()
    here, there = process(values), process(values)
    lead = await here.join(KEY, name="one", holder=await reserves(here, values, "one"))
    other = asyncio.ensure_future(there.join(KEY, name="two", holder=await reserves(there, values, "two")))
    await turns()

    assert isinstance(lead, Lead)
    assert values.asked == 0
    lead.land(ANSWER)
    values.put(KEY, pack(ANSWER), 60)
    lead.done(kept=True)
    assert await other == ANSWER


async def test_pitfall_081_where_nothing_was_left_to_wait_for_each_process_asks_at_once() -> None:
    values = Counting()
    here, there = process(values), process(values)
    lead = await here.join(KEY, name="one", holder=await reserves(here, values, "one"))
    assert isinstance(lead, Lead)
    lead.fail()

    holder = await reserves(there, values, "two")
    new = await there.join(KEY, name="two", holder=holder)

    assert (holder, values.asked) == (b"nothing", 0)
    assert isinstance(new, Lead)


async def test_who_has_the_claim_frees_the_one_of_its_process_that_waits_for_it() -> None:
    values = MemoryValues()
    here = process(values)
    slow = await reserves(here, values, "slow")
    fast = asyncio.ensure_future(here.join(KEY, name="fast", holder=await reserves(here, values, "fast")))
    await turns()

    follower = asyncio.ensure_future(here.join(KEY, name="slow", holder=slow))
    with anyio.fail_after(2):
        lead = await fast
    assert isinstance(lead, Lead)
    lead.land(ANSWER)
    lead.done(kept=False)

    assert await follower == ANSWER
    assert await values.get("flight:" + KEY) == b"nothing"


async def test_a_claim_that_is_given_back_is_free_for_another_process() -> None:
    values = MemoryValues()
    here, there = process(values), process(values)
    await reserves(here, values, "one")
    claim = here.claim(KEY, "one")
    assert claim is not None

    here.release(claim)

    assert await reserves(there, values, "two") == b"two"


def test_nothing_is_claimed_that_nobody_shares() -> None:
    assert process().claim(KEY, "one") is None


async def test_between_processes_one_leads_and_the_other_reads_the_answer() -> None:
    values = MemoryValues()
    here, there = process(values), process(values)
    lead = await asks(here).lead
    others = [asks(there) for _ in range(3)]
    await turns()

    lead.land(ANSWER)
    values.put(KEY, pack(ANSWER), 60)
    lead.done(kept=True)

    assert [await other.joined for other in others] == [ANSWER] * 3
    assert len(here) == len(there) == 0


async def test_one_that_missed_the_answer_by_a_moment_reads_it() -> None:
    values = MemoryValues()
    here, there = process(values), process(values)
    lead = await asks(here).lead
    lead.land(ANSWER)
    values.put(KEY, pack(ANSWER), 60)
    lead.done(kept=True)

    assert await asks(there).joined == ANSWER
    assert await asks(here).joined == ANSWER


async def test_what_is_not_kept_is_asked_again_by_each_process() -> None:
    values = MemoryValues()
    here, there = process(values), process(values)
    lead = await asks(here).lead
    others = [asks(there), asks(there)]
    await turns()

    lead.fail()
    new = await others[0].lead
    new.land(ANSWER)
    new.done(kept=True)

    assert await others[1].joined == ANSWER


@pytest.mark.parametrize("end", [Lead.leave, id])
async def test_the_death_of_the_leaders_process_frees_the_rest_within_the_lease(
    end: Callable[[Lead], object],
) -> None:
    values = MemoryValues()
    here, there, third = process(values, 0.1), process(values, 0.1), process(values, 0.1)
    async with running(there, third):  # and not the first, which is dead
        lead = await asks(here).lead
        others = [asks(there), asks(third)]
        await turns()
        end(lead)

        done, waiting = await asyncio.wait([other.task for other in others], return_when="FIRST_COMPLETED")
        (new,) = [task.result() for task in done]
        assert isinstance(new, Lead)
        new.land(ANSWER)
        values.put(KEY, pack(ANSWER), 60)
        new.done(kept=True)

        assert [await task for task in waiting] == [ANSWER]


async def test_a_living_leader_keeps_its_claim_beyond_the_lease() -> None:
    values = MemoryValues()
    here, there = process(values, 0.08), process(values, 0.08)
    async with running(here, there):
        lead = await asks(here).lead
        with pytest.raises(ProviderTimeoutError):
            await asks(there, time.perf_counter() + 0.4).joined
        assert len(there) == 0

        lead.stream = Stream(waits=False)
        assert await asks(there).lead is not lead


async def test_a_client_that_leaves_while_its_process_waits_lets_the_next_one_wait_on() -> None:
    values = MemoryValues()
    here, there = process(values), process(values)
    lead = await asks(here).lead
    leaves, stays = asks(there), asks(there)
    await turns()

    leaves.task.cancel()
    await turns()
    lead.land(ANSWER)
    values.put(KEY, pack(ANSWER), 60)
    lead.done(kept=True)

    assert await stays.joined == ANSWER


class Away(MemoryValues):
    @override
    async def add(self, key: str, value: bytes, ttl_s: float) -> bytes | None:
        raise StoreAwayError

    @override
    async def renew(self, key: str, value: bytes, ttl_s: float) -> bool:
        raise StoreAwayError


async def test_without_the_store_each_process_asks_once() -> None:
    flights = process(Away(), 0.02)
    async with running(flights):
        lead = await asks(flights).lead
        other = asks(flights)
        await turns()
        lead.land(ANSWER)

        assert await other.joined == ANSWER


class GoesAway(MemoryValues):
    renewed = 0

    @override
    async def renew(self, key: str, value: bytes, ttl_s: float) -> bool:
        self.renewed += 1
        raise StoreAwayError


async def test_a_store_that_goes_away_ends_nothing() -> None:
    values = GoesAway()
    flights = process(values, 0.02)
    async with running(flights):
        await asks(flights).lead
        with anyio.fail_after(2):
            while values.renewed < 2:  # noqa: ASYNC110  it is the loop itself that is looked at
                await asyncio.sleep(0.002)


async def test_a_lead_that_has_ended_holds_no_answer() -> None:
    class Passes:
        waits, moves = True, 0

    answer, passing = Kept(body=b"{}"), Passes()
    before = sys.getrefcount(answer), sys.getrefcount(passing)
    lead = await asks(process()).lead
    lead.stream = passing

    lead.land(answer)
    lead.done(kept=True)

    assert (sys.getrefcount(answer), sys.getrefcount(passing)) == before
    lead.fail()
    lead.leave()
    lead.done(kept=False)
