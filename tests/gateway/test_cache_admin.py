import pytest

from llmgateway.gateway.cache_admin import CacheAdmin, Tally, answer_tags, name_tag, tags_of
from llmgateway.stores.memory.values import MemoryValues

KEY = "answer:" + "0123456789abcdef" * 4


def kept(values: MemoryValues, key: str, user: str | None, model: str, organization: str | None) -> None:
    tags = tags_of(user=user, model=model, organization_id=organization, key_id="key_1")
    values.put(key, b"x" * 100, 60, (*tags, name_tag(user, model, key)))


@pytest.fixture
def values() -> MemoryValues:
    values = MemoryValues()
    kept(values, KEY, "alice", "gpt-4o", "acme")
    kept(values, "answer:1", "alice", "embed", "other")
    kept(values, "answer:2", None, "gpt-4o", "acme")
    return values


@pytest.mark.parametrize(
    ("asked", "cleared"),
    [
        ({}, 3),
        ({"user": "alice"}, 2),
        ({"user": "alice", "organization_id": "acme"}, 1),
        ({"model": "gpt-4o"}, 2),
        ({"key_id": "key_1"}, 3),
        ({"key_id": "key_2"}, 0),
        ({"pattern": "alice_*"}, 2),
        ({"pattern": "anonymous_gpt-4o_*"}, 1),
        ({"pattern": "alice_gpt-4o_0123456789ab"}, 1),
        ({"pattern": "*", "organization_id": "other"}, 1),
        ({"pattern": "nobody*"}, 0),
    ],
)
async def test_answers_are_forgotten_by_all_that_is_said_of_them(
    values: MemoryValues, asked: dict[str, str], cleared: int
) -> None:
    admin = CacheAdmin(values, Tally())

    assert await admin.clear(**asked) == cleared
    assert (await admin.status())["entries"] == 3 - cleared


@pytest.mark.parametrize("user", ["alice", "u" * 5000, "", None])
async def test_the_tags_of_an_answer_are_made_when_they_are_wanted(values: MemoryValues, user: str | None) -> None:
    tags = answer_tags(user, "m" * 200, "acme", "key_1")
    values.put("answer:4", b"x", 60, tags)

    whose = tags_of(user=user, model="m" * 200, organization_id="acme", key_id="key_1")
    assert tags.of(KEY) == (*whose, name_tag(user, "m" * 200, KEY))
    assert await CacheAdmin(values, Tally()).clear(user=user, model="m" * 200, pattern="*m_4") == 1


async def test_the_longest_name_of_a_user_can_be_cleared(values: MemoryValues) -> None:
    kept(values, "answer:3", "u" * 5000, "gpt-4o", None)

    assert await CacheAdmin(values, Tally()).clear(user="u" * 5000) == 1


async def test_the_state_says_how_much_is_kept_and_how_often_it_was_of_use(values: MemoryValues) -> None:
    status = await CacheAdmin(values, Tally(hits=3, misses=5, coalesced=2)).status()

    assert status["entries"] == 3
    assert status["size_bytes"] > 300
    assert status["max_bytes"] == 64 * 1024**2
    assert status["oldest_entry_age_seconds"] >= 0
    assert (status["hits"], status["hit_rate"]) == (3, 0.5)
    assert (await CacheAdmin(MemoryValues(), Tally()).status())["hit_rate"] == 0.0
