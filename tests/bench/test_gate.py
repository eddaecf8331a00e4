import pytest

from bench import payloads
from bench.gate import BOUNDS, ROUNDS, least_ratios, table, verdict
from bench.scenarios import SCENARIOS, Repetition


def repetition(contestant: str, scenario: str, cpu_us: float) -> Repetition:
    """Make a repetition of a thousand answers in one second."""
    return Repetition(scenario, contestant, 1000, 1.0, cpu_us / 1000, 0.0, [0.001], [])


def rounds(*factors: float) -> list[Repetition]:
    """Make rounds in which everything takes its bound times a factor; the null app takes another time in each."""
    units = {each.name: each.chunks or 1 for each in SCENARIOS}
    done = []
    for number, factor in enumerate(factors):
        null_us = 50.0 + number
        done.append(repetition("null", "small", null_us))
        done += [
            repetition("gateway", one.scenario, null_us * units[one.scenario] * one.allowed * factor) for one in BOUNDS
        ]
    return done


@pytest.mark.parametrize(("factor", "code"), [(0.99, 0), (1.01, 1)])
def test_it_fails_when_a_ratio_is_over_its_bound_and_passes_when_under(factor: float, code: int) -> None:
    least = least_ratios(rounds(*[factor] * ROUNDS))

    assert verdict(least) == code
    assert ("**over**" in table(least)) == bool(code)


@pytest.mark.parametrize("dearer", [bound.scenario for bound in BOUNDS])
def test_one_that_is_over_is_enough(dearer: str) -> None:
    least = {bound.scenario: bound.allowed * (2 if bound.scenario == dearer else 0.5) for bound in BOUNDS}

    assert verdict(least) == 1
    assert table(least).count("**over**") == 1


def test_the_least_of_the_rounds_counts_because_others_only_make_dearer() -> None:
    assert verdict(least_ratios(rounds(1.8, 0.9, 1.2))) == 0


def test_a_bound_leaves_room_above_what_was_usual_and_less_than_twice_as_much() -> None:
    assert [bound.what for bound in BOUNDS if not 1.15 <= bound.allowed / bound.usual < 2] == []


def test_the_relay_a_chunk_a_hit_and_a_translated_call_are_held() -> None:
    assert {bound.scenario for bound in BOUNDS} == {"small", "burst", "hit", "translated"}
    assert next(each.chunks for each in SCENARIOS if each.name == "burst") == payloads.EVENTS
