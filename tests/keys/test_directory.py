from datetime import datetime, timedelta

import anyio
import anyio.lowlevel
import pytest

from llmgateway.caller import Budget
from llmgateway.catalog.model import Limits
from llmgateway.errors import KeysAwayError
from llmgateway.keys.directory import Directory
from llmgateway.keys.hashing import hash_of, new_key
from llmgateway.storage.admin.rows import OrganizationRow
from tests.keys.people import NOW, People


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


async def asked_by(people: People, count: int) -> None:
    with anyio.fail_after(5):
        while len(people.asked) < count:
            await anyio.lowlevel.checkpoint()


async def test_a_key_is_asked_for_once_and_says_all_that_is_known_of_its_holder() -> None:
    people = People()
    organization = OrganizationRow(id="acme", name="Acme", created_at=NOW, limits=Limits(7), budget=Budget(100.0))
    people.organizations["acme"] = organization
    key = people.add(
        organization_id="acme",
        models=("chat", "gpt-*"),
        tier="premium",
        limits=Limits(3),
        budget=Budget(5.0, "day"),
        strategy="fastest",
    )
    directory = Directory(people)

    assert directory.known(hash_of(key)) is None
    caller = await directory.find(hash_of(key))

    assert caller is not None
    assert (caller.kind, caller.key_id, caller.organization) == ("client", people.row(key).id, "acme")
    assert (caller.models, caller.tier, caller.strategy) == (("chat", "gpt-*"), "premium", "fastest")
    assert (caller.limits, caller.budget) == (Limits(3), Budget(5.0, "day"))
    assert (caller.organization_limits, caller.organization_budget) == (Limits(7), Budget(100.0))
    assert directory.known(hash_of(key)) is caller
    assert await directory.find(hash_of(key)) is caller
    assert len(people.asked) == 1


@pytest.mark.parametrize(
    ("metadata", "most_urgent"),
    [({}, 3), ({"max_priority": "0"}, 0), ({"max_priority": "x"}, 3), ({"max_priority": ""}, 3)],
)
async def test_a_keys_owner_says_how_urgent_its_jobs_may_be(metadata: dict[str, str], most_urgent: int) -> None:
    people = People()
    caller = await Directory(people).find(hash_of(people.add(metadata=metadata)))

    assert caller is not None
    assert caller.most_urgent == most_urgent


async def test_pitfall_137_a_wrong_key_is_asked_for_once() -> None:
    people = People()
    directory = Directory(people)

    for _ in range(3):
        assert await directory.find(hash_of("lgw_wrong")) is None

    assert len(people.asked) == 1


async def test_pitfall_137_wrong_keys_never_push_out_a_right_one() -> None:
    people = People()
    key = people.add()
    directory = Directory(people, most_known=2, most_wrong=10)
    await directory.find(hash_of(key))

    for number in range(100):
        assert await directory.find(hash_of(str(number))) is None

    assert directory.known(hash_of(key)) is not None
    asked = len(people.asked)
    assert await directory.find(hash_of("99")) is None
    assert len(people.asked) == asked
    assert await directory.find(hash_of("0")) is None
    assert len(people.asked) == asked + 1


async def test_of_too_many_right_keys_the_longest_unused_goes() -> None:
    people = People()
    first, second, third = (people.add() for _ in range(3))
    directory = Directory(people, most_known=2)

    for key in (first, second, first, third):
        await directory.find(hash_of(key))

    assert [directory.known(hash_of(key)) is not None for key in (first, second, third)] == [True, False, True]


async def test_a_key_ends_when_its_time_has_come_without_a_question() -> None:
    people, clock = People(), Clock()
    key = people.add(expires_at=NOW + timedelta(seconds=10))
    directory = Directory(people, now=clock)

    assert await directory.find(hash_of(key)) is not None
    clock.now = NOW + timedelta(seconds=9.9)
    assert directory.known(hash_of(key)) is not None
    clock.now = NOW + timedelta(seconds=10)

    assert directory.known(hash_of(key)) is None
    assert await directory.find(hash_of(key)) is None
    assert len(people.asked) == 1


async def test_a_disabled_key_is_nobodys_until_it_is_enabled() -> None:
    people = People()
    key = people.add(disabled=True)
    directory = Directory(people)

    assert await directory.find(hash_of(key)) is None
    assert await directory.find(hash_of(key)) is None
    assert len(people.asked) == 1
    change = people.change(key, disabled=False)
    directory.changed(change.kind, change.subject)

    assert await directory.find(hash_of(key)) is not None


async def test_after_a_rotation_the_old_key_holds_as_long_as_they_overlap() -> None:
    people, clock = People(), Clock()
    old, new = new_key(), new_key()
    people.add(new, previous_hash=hash_of(old), previous_until=NOW + timedelta(seconds=60))
    directory = Directory(people, now=clock)

    both = [await directory.find(hash_of(key)) for key in (old, new)]
    assert both[0] is not None
    assert both[0] == both[1]
    clock.now = NOW + timedelta(seconds=60)

    assert await directory.find(hash_of(old)) is None
    assert await directory.find(hash_of(new)) is not None


async def test_a_rotation_without_overlap_ends_the_old_key() -> None:
    people = People()
    old, new = new_key(), new_key()
    people.add(new, previous_hash=hash_of(old))

    assert await Directory(people).find(hash_of(old)) is None


async def test_many_requests_with_the_same_unknown_key_share_one_question() -> None:
    people = People()
    people.slow = anyio.Event()
    directory, key, found = Directory(people), people.add(), list[object]()

    async def ask() -> None:
        found.append(await directory.find(hash_of(key)))

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(ask)
        await asked_by(people, 1)
        people.slow.set()

    assert len(people.asked) == 1
    assert len(found) == 50
    assert None not in found


async def test_when_the_one_who_asks_leaves_another_one_asks() -> None:
    people = People()
    people.slow = anyio.Event()
    directory, key, found = Directory(people), people.add(), list[object]()

    async def ask() -> None:
        found.append(await directory.find(hash_of(key)))

    async with anyio.create_task_group() as group, anyio.create_task_group() as leaving:
        leaving.start_soon(ask)
        await asked_by(people, 1)
        group.start_soon(ask)
        await anyio.lowlevel.checkpoint()
        leaving.cancel_scope.cancel()
        people.slow.set()

    assert len(found) == 1
    assert found[0] is not None
    assert len(people.asked) == 2


async def test_pitfall_091_a_look_up_under_way_while_its_key_is_revoked_is_repeated() -> None:
    people = People()
    slow = people.slow = anyio.Event()
    directory, key, found = Directory(people), people.add(), list[object]()

    async def ask() -> None:
        found.append(await directory.find(hash_of(key)))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(ask)
        await asked_by(people, 1)
        # The row was read; before the answer arrives, the key is gone and everybody is told.
        change = people.remove(key)
        directory.changed(change.kind, change.subject)
        slow.set()

    assert found == [None, None, None]
    assert directory.known(hash_of(key)) is None
    assert len(people.asked) == 2


async def test_pitfall_092_a_look_up_under_way_while_its_organization_changes_is_repeated() -> None:
    people = People()
    people.organizations["acme"] = OrganizationRow(id="acme", name="Acme", created_at=NOW, limits=Limits(9))
    slow = people.slow = anyio.Event()
    directory, key = Directory(people), people.add(organization_id="acme")

    async with anyio.create_task_group() as group:
        group.start_soon(directory.find, hash_of(key))
        await asked_by(people, 1)
        people.organizations["acme"] = OrganizationRow(id="acme", name="Acme", created_at=NOW, limits=Limits(1))
        directory.changed("organization", "acme")
        slow.set()

    caller = directory.known(hash_of(key))
    assert caller is not None
    assert caller.organization_limits == Limits(1)


async def test_news_of_others_repeats_nothing() -> None:
    people = People()
    slow = people.slow = anyio.Event()
    directory, key = Directory(people), people.add(organization_id="acme")

    async with anyio.create_task_group() as group:
        group.start_soon(directory.find, hash_of(key))
        await asked_by(people, 1)
        directory.changed("key", "key_of_somebody_else")
        directory.changed("organization", "other")
        directory.changed("provider", "acme")
        slow.set()

    assert len(people.asked) == 1
    assert directory.known(hash_of(key)) is not None


async def test_a_change_drops_the_keys_that_it_is_about_and_no_other() -> None:
    people = People()
    first, second, third = people.add(organization_id="a"), people.add(organization_id="a"), people.add()
    directory = Directory(people)
    for key in (first, second, third):
        await directory.find(hash_of(key))

    def known() -> list[bool]:
        return [directory.known(hash_of(key)) is not None for key in (first, second, third)]

    directory.changed("key", people.row(third).id)
    assert known() == [True, True, False]
    directory.changed("provider", "a")
    directory.changed("deployment", "a")
    assert known() == [True, True, False]
    directory.changed("organization", "a")
    assert known() == [False, False, False]


async def test_a_key_that_was_wrong_before_it_was_made_is_right_after_it() -> None:
    people, key = People(), new_key()
    directory = Directory(people)
    assert await directory.find(hash_of(key)) is None

    people.add(key)
    directory.changed("key", people.row(key).id)

    assert await directory.find(hash_of(key)) is not None


async def test_when_everything_may_have_changed_everything_is_asked_for_again() -> None:
    people = People()
    slow = people.slow = anyio.Event()
    directory, key = Directory(people), people.add()
    async with anyio.create_task_group() as group:
        group.start_soon(directory.find, hash_of(key))
        await asked_by(people, 1)
        directory.everything_changed()
        slow.set()
    assert len(people.asked) == 2

    directory.everything_changed()

    assert directory.known(hash_of(key)) is None


async def test_pitfall_060_while_the_database_is_away_known_keys_go_on_and_others_are_told_to_come_back() -> None:
    people = People()
    known, unknown = people.add(), people.add()
    directory = Directory(people, refresh_s=0.0)
    await directory.find(hash_of(known))
    people.away = True

    for _ in range(3):
        assert directory.known(hash_of(known)) is not None
        await directory.refresh()
    with pytest.raises(KeysAwayError) as away:
        await directory.find(hash_of(unknown))

    assert (away.value.status, away.value.should_retry) == (503, True)
    assert "internal" not in away.value.message
    people.away = False
    assert await directory.find(hash_of(unknown)) is not None
    assert await directory.find(hash_of("lgw_wrong")) is None


async def test_pitfall_060_all_who_wait_for_the_same_key_are_told_that_the_database_is_away() -> None:
    people = People()
    slow = people.slow = anyio.Event()
    directory, key, refused = Directory(people), people.add(), list[KeysAwayError]()

    async def ask() -> None:
        try:
            await directory.find(hash_of(key))
        except KeysAwayError as error:
            refused.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(ask)
        await asked_by(people, 1)
        people.away = True
        slow.set()

    assert len(refused) == 10
    assert len(people.asked) == 1


async def test_pitfall_060_a_database_that_does_not_answer_is_away() -> None:
    people = People()
    people.slow = anyio.Event()
    key = people.add()

    with pytest.raises(KeysAwayError):
        await Directory(people, limit_s=0.02).find(hash_of(key))


async def test_pitfall_091_a_key_whose_change_cannot_be_read_is_not_let_in_on_what_was_true_before() -> None:
    people = People()
    key = people.add()
    directory = Directory(people)
    await directory.find(hash_of(key))
    people.away = True
    directory.changed("key", people.row(key).id)

    with pytest.raises(KeysAwayError):
        await directory.find(hash_of(key))


async def test_a_key_in_use_is_read_again_after_a_while_even_without_news() -> None:
    people = People()
    key = people.add()
    directory = Directory(people, refresh_s=0.0)
    await directory.find(hash_of(key))
    people.rows.clear()

    assert directory.known(hash_of(key)) is not None
    await directory.refresh()

    assert await directory.find(hash_of(key)) is None
    assert len(people.asked) == 2


async def test_a_row_that_can_no_longer_be_read_is_not_remembered_as_it_was() -> None:
    people = People()
    key = people.add()
    directory = Directory(people, refresh_s=0.0)
    await directory.find(hash_of(key))
    people.broken = KeyError("column")

    await directory.refresh()

    assert directory.known(hash_of(key)) is None
    with pytest.raises(KeyError):
        await directory.find(hash_of(key))


async def test_what_is_old_is_read_again_beside_the_requests() -> None:
    people = People()
    key = people.add()
    directory = Directory(people, refresh_s=0.0)
    await directory.find(hash_of(key))

    async with anyio.create_task_group() as group:
        group.start_soon(directory.run)
        await asked_by(people, 2)
        group.cancel_scope.cancel()


async def test_a_bug_in_a_look_up_stays_a_bug_and_blocks_nobody() -> None:
    people = People()
    people.broken = KeyError("column")
    key = people.add()
    directory = Directory(people)

    for _ in range(2):
        with pytest.raises(KeyError):
            await directory.find(hash_of(key))

    people.broken = None
    assert await directory.find(hash_of(key)) is not None
