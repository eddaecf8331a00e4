import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.gateway.answers.similar import MOST_RECORDS, nearest, normalized, with_record

numbers = st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3).filter(lambda each: math.hypot(*each) > 0.01)


def vector(*numbers: float) -> bytes:
    made = normalized(numbers)
    assert made is not None
    return made


def test_the_nearest_comes_first_and_what_is_too_far_not_at_all() -> None:
    index = b""
    for key, angle in (("far", 1.0), ("near", 0.1), ("nearer", 0.05)):
        index = with_record(index, key, vector(math.cos(angle), math.sin(angle)))

    found = nearest(index, vector(1, 0), 0.99)

    assert [key for _, key in found] == ["nearer", "near"]
    assert [similarity for similarity, _ in found] == pytest.approx([math.cos(0.05), math.cos(0.1)], abs=1e-5)


@given(numbers, numbers, st.floats(0.1, 0.99))
def test_it_is_the_cosine_that_counts(one: list[float], other: list[float], threshold: float) -> None:
    cosine = sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)
    found = nearest(with_record(b"", "key", vector(*one)), vector(*other), threshold)

    if abs(cosine - threshold) > 1e-3:
        assert bool(found) == (cosine > threshold)
    assert all(similarity == pytest.approx(cosine, abs=1e-4) for similarity, _ in found)


def test_long_vectors_are_compared_whole() -> None:
    rng = random.Random(7)
    one = [rng.gauss(0, 1) for _ in range(1536)]
    same_beginning = [*one[:300], *(rng.gauss(0, 1) for _ in range(1236))]
    index = with_record(with_record(b"", "same", vector(*one)), "other", vector(*same_beginning))

    assert [key for _, key in nearest(index, vector(*one), 0.95)] == ["same"]


def test_the_oldest_makes_room_and_a_key_stands_there_once() -> None:
    index = b""
    for n in range(MOST_RECORDS + 5):
        index = with_record(index, f"key{n}", vector(1, n))
    index = with_record(index, "key9", vector(1, 0))

    found = {key for _, key in nearest(index, vector(1, 0), -1)}

    assert len(found) == MOST_RECORDS
    assert "key4" not in found
    assert "key9" in found


def test_vectors_of_another_length_are_not_compared() -> None:
    assert nearest(with_record(b"", "key", vector(1, 0, 0)), vector(1, 0), 0.1) == []


def test_a_damaged_index_is_an_empty_one() -> None:
    assert nearest(b"\xc1", vector(1, 0), 0.1) == []
    assert nearest(with_record(b"\xc1", "key", vector(1, 0)), vector(1, 0), 0.1) != []


@pytest.mark.parametrize("numbers", [[], [0.0, 0.0], [math.nan, 1.0], [math.inf]])
def test_what_has_no_direction_is_no_vector(numbers: list[float]) -> None:
    assert normalized(numbers) is None
