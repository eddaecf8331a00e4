import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmgateway.catalog.model import Deployment, Prices, SecurityLevel
from llmgateway.errors import GatewayError, InvalidRequestError, NoHealthyDeploymentError
from llmgateway.routing.choosing.candidate import Candidate
from llmgateway.routing.choosing.filters import FILTERS, Among, Wanted
from llmgateway.routing.choosing.pool import Pool
from llmgateway.routing.health.health import Cause
from tests.deployments import candidates_of, deployment, names
from tests.timing import relative_cost

NOW = 1000.0

NEEDS = ("vision", "tools", "reasoning")
LEVELS: tuple[SecurityLevel, ...] = ("low", "medium", "high")
CAUSES: tuple[Cause, ...] = ("failures", "rate_limit", "auth", "quota")


def pool(*deployments: Deployment) -> Pool:
    return Pool(candidates_of(deployments), "chat")


def various(chance: random.Random) -> Deployment:
    """Make a deployment of any kind: drawn piece by piece, some hundreds of lists of them take seconds."""
    listed = chance.sample((*NEEDS, "streaming"), k=chance.randrange(5))
    split = chance.randint(0, len(listed))
    return deployment(
        chance.choice("abc"),
        provider=chance.choice(("openai", "groq")),
        security_level=chance.choice(LEVELS),
        accepts_client_keys=chance.random() < 0.5,
        context_length=chance.choice((None, 50, 100, 200)),
        max_output_tokens=chance.choice((None, 10, 60)),
        capabilities=frozenset(listed[:split]),
        lacks=frozenset(listed[split:]),
        prices=chance.choice((None, Prices(0.0, 0.0), Prices(0.01, 0.0), Prices(0.1, 0.0))),
        drop_unsupported=chance.random() < 0.5,
    )


VARIOUS = [various(random.Random(seed)) for seed in range(300)]
STATES: list[tuple[float, Cause | None, bool]] = [
    *((0.0, None, False) for _ in range(5)),
    *((NOW - 1, "failures", probing) for probing in (True, False)),
    *((NOW + 5, cause, False) for cause in CAUSES),
    *((NOW - 1, "rate_limit", probing) for probing in (True, False)),
]


def made(drawn: list[tuple[Deployment, tuple[float, Cause | None, bool]]]) -> Pool:
    found = pool(*(one for one, _ in drawn))
    for one, (_, (until, cause, probing)) in zip(found.candidates, drawn, strict=True):
        one.health.until, one.health.cause = until, cause
        if probing:
            one.health.begin(NOW)
    return found


def pools() -> st.SearchStrategy[Pool]:
    one = st.tuples(st.sampled_from(VARIOUS), st.sampled_from(STATES))
    return st.lists(one, min_size=1, max_size=6).map(made)


def wants() -> st.SearchStrategy[Wanted]:
    lengths = st.sampled_from((0, 40, 50, 60, 100, 120, 220))
    return st.builds(
        lambda fewest, more, **others: Wanted(
            NOW, fewest_prompt_tokens=fewest, most_prompt_tokens=fewest + more, **others
        ),
        lengths,
        st.sampled_from((0, 50)),
        needs=st.frozensets(st.sampled_from(NEEDS)),
        stream=st.booleans(),
        prompt_tokens=st.just(10),
        max_answer_tokens=st.none() | st.sampled_from((5, 70)),
        min_security=st.none() | st.sampled_from(LEVELS),
        own_provider=st.none() | st.sampled_from(("openai", "groq")),
        max_cost_usd=st.none() | st.sampled_from((0.0, 0.1, 1.0)),
    )


def reference(found: Pool, wanted: Wanted) -> Iterator[tuple[str, list[Candidate]]]:
    """Filter one by one, in so many words."""
    left = list(found.candidates)
    if wanted.own_provider is not None:
        left = [one for one in left if one.deployment.account.provider == wanted.own_provider]
        left = [one for one in left if one.deployment.account.accepts_client_keys]
    yield "provider_key", left
    if wanted.min_security is not None:
        enough = LEVELS[LEVELS.index(wanted.min_security) :]
        left = [one for one in left if one.deployment.account.security_level in enough]
    yield "security", left
    left = _able(left, wanted)
    yield "capability", left
    left = _roomy(left, wanted)
    yield "context_window", left
    if wanted.max_cost_usd is not None:
        left = [one for one in left if one.deployment.prices is not None]
        left = [one for one in left if 10 * one.input_usd <= wanted.max_cost_usd]
    yield "max_cost", left
    if wanted.own_provider is None:
        left = [one for one in left if one.health.available(NOW)]
    yield "circuit", left


def _able(left: list[Candidate], wanted: Wanted) -> list[Candidate]:
    for need in (*wanted.needs, *(["streaming"] if wanted.stream else [])):
        lacking = [one for one in left if need in one.deployment.lacks]
        lenient = [one for one in lacking if need == "reasoning" and one.deployment.drop_unsupported]
        left = [one for one in left if one not in lacking or one in lenient]
    sure = [one for one in left if all(need in one.deployment.capabilities for need in wanted.needs)]
    return sure or left


def _roomy(left: list[Candidate], wanted: Wanted) -> list[Candidate]:
    def over(one: Candidate, answer: int) -> bool:
        window = one.deployment.context_length
        return window is not None and wanted.fewest_prompt_tokens + answer > window

    left = [one for one in left if not over(one, 0)]
    answers = {one.place: min(wanted.max_answer_tokens or 0, one.deployment.max_output_tokens or 10**9) for one in left}
    ample = [one for one in left if not over(one, answers[one.place])]
    return ample if any(one.deployment.context_length is not None for one in ample) else left


@settings(max_examples=400)
@given(pools(), wants())
@example(pool(deployment()), Wanted(NOW))
def test_what_is_left_is_what_each_filter_by_itself_leaves(found: Pool, wanted: Wanted) -> None:
    expected = dict(reference(found, wanted))
    emptied = next((name for name, left in expected.items() if not left), None)

    sieved = found.sieved(wanted)

    assert list(sieved.left) == (expected["circuit"] if emptied is None else [])
    for _ in range(2):  # the second time from what was kept of the first
        if emptied is None:
            assert list(found.left(wanted)) == expected["circuit"]
            assert sieved.refusal is None
            continue
        with pytest.raises(GatewayError) as caught:
            found.left(wanted)
        assert caught.value.details is not None
        assert caught.value.details["filter"] == emptied
        assert sieved.refusal is not None
        assert sieved.refusal.message == caught.value.message


@given(pools(), wants())
def test_everybody_is_either_left_or_dropped_for_a_reason(found: Pool, wanted: Wanted) -> None:
    sieved = found.sieved(wanted)

    told = [one.place for one in sieved.left] + [drop.candidate.place for drop in sieved.drops]
    assert sorted(told) == list(range(len(found.candidates)))
    assert [one.place for one in sieved.left] == sorted(one.place for one in sieved.left)
    assert all(drop.reason and drop.filter in FILTERS for drop in sieved.drops)


@given(pools(), wants())
def test_nobody_is_left_who_lacks_what_is_needed(found: Pool, wanted: Wanted) -> None:
    for one in found.sieved(wanted).left:
        lenient = {"reasoning"} if one.deployment.drop_unsupported else set()
        assert not (wanted.needs - lenient) & one.deployment.lacks
        assert not (wanted.stream and "streaming" in one.deployment.lacks)


@given(pools(), wants())
def test_one_who_must_be_asked_rests_at_worst(found: Pool, wanted: Wanted) -> None:
    before_circuits = dict(reference(found, wanted))["max_cost"]

    if before_circuits:
        assert set(names(found.left(wanted, forced=True))) <= set(names(before_circuits))
    else:
        with pytest.raises(GatewayError):
            found.left(wanted, forced=True)


def test_the_very_same_sequence_is_given_where_nobody_is_dropped() -> None:
    found = pool(deployment("a", context_length=1000), deployment("b", capabilities=frozenset({"tools"})))

    assert found.left(Wanted(NOW)) is found.candidates
    assert found.left(Wanted(NOW, stream=True, min_security="medium", most_prompt_tokens=1000)) is found.candidates
    assert found.left(Wanted(NOW, needs=frozenset({"vision"}))) is found.candidates, "nobody knows, so all may be asked"
    assert found.left(Wanted(NOW, fewest_prompt_tokens=900, most_prompt_tokens=5000)) is found.candidates


@pytest.mark.parametrize(
    "wanted",
    [
        {"min_security": "medium"},
        {"min_security": "high"},
        {"own_provider": "openai"},
        {"needs": frozenset({"tools"})},
        {"stream": True},
        {"fewest_prompt_tokens": 101, "most_prompt_tokens": 101},
        {"fewest_prompt_tokens": 50, "most_prompt_tokens": 50, "max_answer_tokens": 51},
        {"prompt_tokens": 10, "max_cost_usd": 0.1},
    ],
    ids="-".join,
)
def test_each_filter_alone_is_enough_to_drop_somebody(wanted: dict[str, Any]) -> None:
    streaming, tools = frozenset({"streaming"}), frozenset({"tools"})
    worse = deployment("worse", provider="groq", security_level="low", context_length=100, lacks=streaming)
    trust: dict[str, Any] = {"security_level": "high", "accepts_client_keys": True}
    better = deployment("better", context_length=200, capabilities=tools, prices=Prices(0.001, 0.0), **trust)

    assert names(pool(worse, better).left(Wanted(NOW, **wanted))) == ["better"]


def test_a_circuit_is_looked_at_with_every_call() -> None:
    found = pool(deployment("a"), deployment("b"))
    first = found.candidates[0].health

    first.until, first.cause = NOW + 5, "failures"
    assert names(found.left(Wanted(NOW))) == ["b"]
    assert names(found.left(Wanted(NOW + 6))) == ["a", "b"]
    first.until = 0.0
    assert found.left(Wanted(NOW)) is found.candidates


def test_an_empty_pool_answers_nothing() -> None:
    with pytest.raises(NoHealthyDeploymentError):
        pool().left(Wanted(NOW))
    assert isinstance(pool().sieved(Wanted(NOW)).refusal, NoHealthyDeploymentError)


def test_what_nobody_can_do_is_refused_every_time() -> None:
    found = pool(deployment("a", lacks=frozenset({"vision"})))

    for _ in range(2):
        with pytest.raises(InvalidRequestError, match="`chat` can take images"):
            found.left(Wanted(NOW, needs=frozenset({"vision"})))


@pytest.mark.parametrize(
    ("fewest", "most", "must"),
    [(0, 100, False), (0, 101, True), (100, 100, False), (101, 200, False), (150, 201, True), (201, 9999, False)],
)
def test_a_prompt_is_counted_only_where_a_window_lies_between_its_bounds(fewest: int, most: int, *, must: bool) -> None:
    found = pool(deployment("a", context_length=100), deployment("b", context_length=200), deployment("c"))

    assert found.must_count(fewest, most) is must
    assert not pool(deployment("c")).must_count(fewest, most)


def usual(number: int) -> Pool:
    able = frozenset({"tools", "vision", "streaming"})
    fields: dict[str, Any] = {"context_length": 128_000, "max_output_tokens": 16_384}
    return pool(*(deployment(f"a{n}", capabilities=able if n % 2 else frozenset(), **fields) for n in range(number)))


@pytest.mark.alone
@pytest.mark.parametrize(("number", "all_left", "some_left"), [(10, 0.6, 2.0), (100, 2.5, 10.0)])
def test_filters_cost_next_to_nothing(number: int, all_left: float, some_left: float) -> None:
    found = usual(number)
    plain = Wanted(NOW, stream=True, most_prompt_tokens=300, max_answer_tokens=1000, min_security="medium")
    narrowing = [
        Wanted(NOW, stream=True, needs=frozenset({"tools"})),
        Wanted(NOW, fewest_prompt_tokens=60_000, most_prompt_tokens=200_000, max_answer_tokens=16_000),
    ]

    assert relative_cost(lambda: found.left(plain), number=1000) < all_left
    for wanted in narrowing:
        assert relative_cost(lambda wanted=wanted: found.left(wanted), number=500) < some_left  # type: ignore[misc]


def test_who_is_left_can_be_walked_again_and_again() -> None:
    left: Among = usual(4).left(Wanted(NOW, needs=frozenset({"tools"})))

    assert names(left) == names(left) == ["a1", "a3"]
