import statistics
import time
from collections.abc import Callable

import pytest

from llmgateway.caller import ANYONE, Caller
from llmgateway.errors import AuthenticationError, KeysAwayError
from llmgateway.keys.directory import Directory
from llmgateway.keys.hashing import hash_of, new_key
from llmgateway.keys.modes import Identify, Mode
from tests.keys.people import People

SHARED, ADMIN, METRICS, OPENAI = "shared-key-0001", "admin-key-0001", "metrics-key-0001", b"sk-proj-abcdefgh12345678"


def identify(mode: Mode, people: People | None = None, **more: object) -> Identify:
    directory = None if people is None else Directory(people)
    given: dict[str, object] = {"gateway_keys": (SHARED,), "admin_key": ADMIN, "metrics_key": METRICS}
    return Identify(mode, directory=directory, **(given | more))  # type: ignore[arg-type]


async def caller(found: Identify, proof: bytes | str | None, address: str | None = "192.0.2.7") -> Caller:
    return await found.caller(proof.encode() if isinstance(proof, str) else proof, address)


async def test_in_mode_none_everybody_is_anyone_but_the_administrator() -> None:
    people = People()
    key = people.add()
    everybody = identify("none", people)

    for proof in (None, "wrong", SHARED, key, METRICS, OPENAI):
        assert await caller(everybody, proof) is ANYONE
    assert (await caller(everybody, ADMIN)).kind == "admin"
    assert people.asked == []


async def test_in_mode_gateway_the_shared_keys_are_let_in() -> None:
    people = People()
    key = people.add()
    found = identify("gateway", people, gateway_keys=(SHARED, "another-shared-key"))

    one, other = await caller(found, SHARED), await caller(found, "another-shared-key")
    assert (one.kind, one.key_id) == ("shared", f"gateway_{hash_of(SHARED)[:8]}")
    assert one.key_id != other.key_id
    assert one.organization is None
    for proof in (key, METRICS, OPENAI, SHARED[:-1], SHARED + "x", SHARED.upper()):
        with pytest.raises(AuthenticationError):
            await caller(found, proof)
    assert people.asked == []


async def test_in_mode_client_each_has_its_own_key_and_its_use_is_noted() -> None:
    people, used = People(), list[str]()
    key = people.add(organization_id="acme")
    found = identify("client", people, used=used.append)

    assert (await caller(found, key)).organization == "acme"
    assert (await caller(found, key)).key_id == people.row(key).id
    assert found.at_once(key.encode()) is not None
    assert used == [people.row(key).id] * 3
    for proof in (SHARED, OPENAI, METRICS, new_key()):
        with pytest.raises(AuthenticationError):
            await caller(found, proof)


async def test_pitfall_137_what_no_key_of_ours_can_be_costs_the_database_no_question() -> None:
    people = People()
    found = identify("client", people)

    for proof in ("", "x", "lgw_short", OPENAI, b"\xff" * 47, b"lgw_" + b"a" * 100_000):
        with pytest.raises(AuthenticationError):
            await caller(found, proof)

    assert people.asked == []


async def test_in_mode_hybrid_shared_and_own_keys_come_before_a_providers() -> None:
    people = People()
    key = people.add()
    found = identify(
        "hybrid", people, gateway_keys=("sk-proj-our-own-shared-key", SHARED), accepted=lambda: {"openai", "groq"}
    )

    assert (await caller(found, "sk-proj-our-own-shared-key")).kind == "shared"
    assert (await caller(found, key)).kind == "client"
    own = await caller(found, OPENAI)
    assert (own.kind, own.provider, own.provider_key) == ("provider", "openai", OPENAI.decode())
    assert own.key_id == "address_192.0.2.7"
    assert OPENAI.decode() not in repr(own)
    for proof in (b"sk-ant-abcdefgh12345678", b"nothing-known", new_key()):
        with pytest.raises(AuthenticationError):
            await caller(found, proof)


@pytest.mark.parametrize("mode", ["gateway", "client"])
async def test_a_providers_key_is_let_in_by_mode_hybrid_alone(mode: Mode) -> None:
    with pytest.raises(AuthenticationError):
        await caller(identify(mode, People(), accepted=lambda: {"openai"}), OPENAI)


@pytest.mark.parametrize(
    ("address", "key_id"),
    [
        ("192.0.2.7", "address_192.0.2.7"),
        ("::ffff:192.0.2.7", "address_192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "address_2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", "address_2001:db8:1:2::"),
        (None, "address_unknown"),
        ("a/path/of/a/socket", "address_unknown"),
    ],
)
async def test_whoever_brings_a_providers_key_is_known_by_the_address(address: str | None, key_id: str) -> None:
    found = identify("hybrid", People(), accepted=lambda: {"openai"})

    assert (await caller(found, OPENAI, address)).key_id == key_id


@pytest.mark.parametrize("mode", ["gateway", "client", "hybrid"])
async def test_unknown_disabled_and_expired_keys_get_the_same_words(mode: Mode) -> None:
    people = People()
    keys = [people.add(disabled=True), new_key(), "wrong", METRICS]
    found, words = identify(mode, people), set[str]()

    for key in keys:
        with pytest.raises(AuthenticationError) as refused:
            await caller(found, key)
        words.add(refused.value.message)
        assert key not in refused.value.message
    with pytest.raises(AuthenticationError, match="No key was sent") as without:
        await caller(found, None)

    assert len(words) == 1
    assert "Authorization: Bearer" in without.value.message


async def test_the_admin_key_is_the_administrators_in_every_mode() -> None:
    modes: tuple[Mode, ...] = ("none", "gateway", "client", "hybrid")

    for mode in modes:
        assert (await caller(identify(mode, People()), ADMIN)).kind == "admin"


def test_the_metrics_key_opens_the_metrics_alone() -> None:
    found = identify("client", People())

    assert found.may_read_metrics(METRICS.encode())
    assert not found.may_read_metrics(METRICS[:-1].encode())
    assert not identify("client", People(), metrics_key=None).may_read_metrics(b"")


@pytest.mark.parametrize("doubled", [{"gateway_keys": (ADMIN,)}, {"metrics_key": ADMIN}])
def test_one_key_for_two_purposes_is_refused(doubled: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="ADMIN_KEY"):
        identify("hybrid", People(), **doubled)


async def test_pitfall_060_without_the_database_a_key_is_not_called_wrong() -> None:
    people = People()
    key = people.add()
    found = identify("hybrid", people, accepted=lambda: {"openai"})
    people.away = True

    with pytest.raises(KeysAwayError):
        await caller(found, key)
    assert (await caller(found, SHARED)).kind == "shared"
    assert (await caller(found, OPENAI)).kind == "provider"
    with pytest.raises(AuthenticationError):
        await caller(found, "wrong")


def _fastest_us(ask: Callable[[], object], rounds: int = 40, times: int = 2000) -> float:
    best = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(times):
            ask()
        best.append(time.process_time() - began)
    return min(best) / times * 1e6


@pytest.mark.alone
async def test_the_time_for_a_wrong_key_says_nothing_of_how_much_of_it_is_right() -> None:
    """Right in none, half or all but one of its characters: it is hashed whole, and the hash is looked up whole."""
    people = People()
    right = people.add().encode()
    found = identify("hybrid", people, gateway_keys=(SHARED,))
    await found.caller(right, None)
    wrong = [b"x" * 47, right[:24] + b"x" * 23, right[:-1] + (b"x" if right[-1:] != b"x" else b"y")]
    for key in wrong:
        with pytest.raises(AuthenticationError):
            await found.caller(key, None)
    times: list[list[float]] = [[], [], []]
    for _ in range(15):
        for at, key in enumerate(wrong):
            times[at].append(_fastest_us(lambda key=key: found.at_once(key), rounds=1))  # type: ignore[misc]

    medians = [statistics.median(each) for each in times]
    assert max(medians) < 1.25 * min(medians), medians


@pytest.mark.alone
async def test_a_known_key_costs_at_most_three_microseconds() -> None:
    people = People()
    key = people.add().encode()
    found = identify("hybrid", people, used=dict[str, float]().__contains__)
    await found.caller(key, None)

    assert _fastest_us(lambda: found.at_once(key)) < 3.0 * _slowness()


def _slowness() -> float:
    """Compare this machine with the one that the bound was set on, by what most of the time goes to."""
    key = b"lgw_" + b"a" * 43
    return max(1.0, _fastest_us(lambda: hash_of(key)) / 0.7)
