import re
import time

from hypothesis import given
from hypothesis import strategies as st

from llmgateway.ids import new_id

PREFIXES = st.sampled_from(["req", "job", "file", "batch", "resp", "key", "chatcmpl"])


def milliseconds_of(made: str) -> int:
    return int(made.rpartition("_")[2][:11], 16)


@given(PREFIXES)
def test_an_id_says_what_it_names_and_when_it_was_made(prefix: str) -> None:
    before_ms = time.time_ns() // 1_000_000

    made = new_id(prefix)

    assert re.fullmatch(rf"{prefix}_[0-9a-f]{{26}}", made)
    assert before_ms <= milliseconds_of(made) <= time.time_ns() // 1_000_000


def test_ids_sort_by_the_time_they_were_made() -> None:
    made = [new_id("req")]
    while len(made) < 20:
        following = new_id("req")
        if milliseconds_of(following) > milliseconds_of(made[-1]):
            made.append(following)

    assert sorted(made) == made


def test_no_two_of_a_hundred_thousand_are_alike() -> None:
    assert len({new_id("req") for _ in range(100_000)}) == 100_000


def test_chance_uses_the_whole_width() -> None:
    columns = list(zip(*(new_id("req")[-15:] for _ in range(2000)), strict=True))

    assert [len(set(column)) for column in columns] == [16] * 15
