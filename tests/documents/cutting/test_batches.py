import itertools
import random
import sys
import time
import tracemalloc
from collections.abc import Sequence
from functools import cache

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from llmgateway.documents.cutting.batches import cut
from llmgateway.documents.recipe import Batch, Count
from llmgateway.tokens.encodings import count_with, load_encoding, tables_folder

FENCE = "```py\n" + "a = 1\n\n" * 20 + "```\n"
TABLE = "| a | b |\n|---|---|\n" + "| one | two |\n" * 20
LIST = "- one\n- two\n  more\n" * 10


@cache
def o200k() -> tiktoken.Encoding:
    return load_encoding("o200k_base", tables_folder())


def by_tokens(texts: Sequence[str]) -> list[int]:
    return [count_with(o200k(), text) for text in texts]


def by_words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def by_bytes(texts: Sequence[str]) -> list[int]:
    return [len(text.encode(errors="surrogatepass")) for text in texts]


def in_batches(
    text: str, *, after: int = 500, most_turns: int | None = 10, available: int = 4000, count: Count = by_words
) -> tuple[Batch, ...]:
    return cut(text, create_new_turn_after=after, max_new_turns=most_turns, available=available, count=count)


def parts(text: str, batches: Sequence[Batch]) -> list[str]:
    assert [batch.start for batch in batches] == [0, *(batch.end for batch in batches)][:-1]
    assert not batches or batches[-1].end == len(text)
    return [text[batch.start : batch.end] for batch in batches]


def test_a_batch_takes_turns_until_there_are_enough() -> None:
    text = "".join(f"Anna: {n}\nBen: {n}\n" for n in range(5))

    batches = in_batches(text, most_turns=4)

    assert [batch.turns for batch in batches] == [4, 4, 2]
    assert parts(text, batches)[1].startswith("Anna: 2\n")
    assert [batch.tokens for batch in batches] == [8, 8, 4]


def test_a_batch_takes_turns_until_the_window_is_full() -> None:
    text = "one two three.\n\n" * 10

    assert [batch.turns for batch in in_batches(text, available=10)] == [3, 3, 3, 1]
    assert len(in_batches(text, most_turns=None)) == 1


def test_a_long_turn_is_cut_at_sentences_and_its_pieces_keep_their_speaker() -> None:
    text = "Anna: One two three. Four five six. Seven eight nine.\nBen: Yes.\n"

    batches = in_batches(text, after=4, most_turns=1)

    assert parts(text, batches) == [
        "Anna: One two three. ",
        "Four five six. ",
        "Seven eight nine.\n",
        "Ben: Yes.\n",
    ]
    assert [batch.speaker for batch in batches] == [None, "Anna", "Anna", None]


def test_a_turn_longer_than_the_window_is_cut_though_it_might_be_longer() -> None:
    assert [batch.tokens for batch in in_batches("word " * 20, available=6)] == [6, 6, 6, 2]


@pytest.mark.parametrize("count", [by_words, by_tokens])
def test_pitfall_115_fifty_thousand_words_without_a_mark_are_all_there(count: Count) -> None:
    text = " ".join(f"word{n}" for n in range(50_000))

    batches = in_batches(text, count=count)

    assert "".join(parts(text, batches)) == text
    assert max(batch.tokens for batch in batches) <= 4000
    assert not any(part.endswith("wor") or part.startswith("ord") for part in parts(text, batches))


@pytest.mark.parametrize(
    "text",
    [
        "田中さんは行きます" * 3000,
        "สวัสดีครับผมชื่อ" * 3000,
        "नमस्ते दुनिया " * 3000,
        "مرحبا " * 5000,
        "👩‍👩‍👧" * 2000,
        "a\u0301\u0302" * 5000,
    ],
)
def test_pitfall_115_every_script_is_covered(text: str) -> None:
    batches = in_batches(text, available=700, count=by_tokens)

    assert "".join(parts(text, batches)) == text
    assert max(batch.tokens for batch in batches) <= 700


@pytest.mark.parametrize("block", [FENCE, TABLE, LIST])
def test_pitfall_117_code_tables_and_lists_stay_in_one_piece(block: str) -> None:
    text = "Some words before.\n\n" + block + "\nSome words after.\n\n" + block

    batches = in_batches(text, after=20, available=120)

    assert "".join(parts(text, batches)) == text
    assert sum(part.count(block.rstrip()) for part in parts(text, batches)) == 2


@pytest.mark.parametrize("block", [FENCE, TABLE, LIST])
def test_pitfall_117_what_is_longer_than_a_batch_is_cut_between_its_lines(block: str) -> None:
    batches = in_batches(block, after=5, most_turns=2, available=100)

    assert len(batches) > 3
    assert all(part.endswith("\n") for part in parts(block, batches))


def test_a_long_table_counts_as_several_turns() -> None:
    batches = in_batches(TABLE + "\nshort\n" * 9, after=20, available=1000)

    assert batches[0].turns > 5


def test_what_is_longer_together_than_its_parts_were_is_parted_again() -> None:
    def count(texts: Sequence[str]) -> list[int]:
        return [2 * len(text.split()) - 1 for text in texts]

    text = "a\n\nb\n\nc\n\nd\n\n"

    assert [(batch.turns, batch.tokens) for batch in in_batches(text, available=4, count=count)] == [(2, 3), (2, 3)]


@pytest.mark.parametrize("text", [" ", "\n \n\t"])
def test_a_text_of_blanks_is_a_batch_all_the_same(text: str) -> None:
    assert parts(text, in_batches(text)) == [text]


def test_nothing_is_no_batch() -> None:
    assert in_batches("") == ()


def test_sizes_below_one_are_taken_for_one() -> None:
    assert parts("ab", in_batches("ab", after=0, available=-5, count=by_bytes)) == ["a", "b"]


STRANGE = st.sampled_from(
    ["\u0301", "👩‍👩‍👧", "🇫🇷", "\u200d", "田中", "A: b\n", "```\n", "|a|\n", "- a\n", ". B", "\n\n", "ﷺ", "\ud800"]
)
TEXTS = st.text(st.characters()) | st.lists(STRANGE | st.text(max_size=5)).map("".join)


@settings(max_examples=300, deadline=None)
@given(
    text=TEXTS,
    after=st.integers(1, 30),
    most_turns=st.none() | st.integers(1, 5),
    available=st.integers(1, 40),
    count=st.sampled_from([by_bytes, by_tokens]),
)
def test_any_text_is_in_its_batches_and_none_is_too_large(
    text: str, after: int, most_turns: int | None, available: int, count: Count
) -> None:
    batches = in_batches(text, after=after, most_turns=most_turns, available=available, count=count)

    assert "".join(parts(text, batches)) == text
    for batch, part in zip(batches, parts(text, batches), strict=True):
        assert batch.tokens == count([part])[0]
        assert batch.tokens <= available or len(part) == 1
        assert batch.turns >= 1
        assert most_turns is None or batch.turns <= most_turns


def transcript(most_chars: int) -> str:
    drawn = random.Random(7)
    words = ["the", "budget", "of", "our", "project", "is", "better", "because", "customers", "asked", "for", "more"]
    names = ["Anna", "Ben O'Brien", "Dr. Chen", "Дмитрий", "Eve"]
    lines, chars = [], 0
    while chars < most_chars:
        said = (
            " ".join(drawn.choices(words, k=drawn.randint(4, 20))).capitalize() for _ in range(drawn.randint(1, 30))
        )
        lines.append(f"{drawn.choice(names)}: {'. '.join(said)}.\n")
        chars += len(lines[-1])
    return "".join(lines)


@pytest.mark.alone
@pytest.mark.timeout(120)
def test_a_million_tokens_are_cut_for_the_price_of_counting_them() -> None:
    text = transcript(5_400_000)
    tokens = by_tokens([text])[0]

    whole_s = least_s(lambda: by_tokens([text]))
    cut_s = least_s(lambda: in_batches(text, available=100_000, count=by_tokens))

    batches = in_batches(text, available=100_000, count=by_tokens)
    assert tokens > 1_000_000
    assert abs(sum(batch.tokens for batch in batches) - tokens) < tokens / 100
    # Each turn once, and hardly anything twice; five seconds would be some eight times.
    assert cut_s < 3 * whole_s


@pytest.mark.alone
@pytest.mark.timeout(120)
def test_a_million_tokens_are_cut_in_little_memory() -> None:
    text = transcript(4_900_000)
    in_batches("warm up. " * 2000, after=50, count=by_words)

    tracemalloc.start()
    try:
        batches = in_batches(text, available=100_000, count=by_words)
        most_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert len(batches) > 100
    assert most_bytes < 50 * 1024 * 1024


NASTY = {
    "no blank": "abcdefghij" * 100_000,
    "one line": "so we said. And then we left, too. " * 30_000,
    "empty lines": "a\n" + "\n" * 1_000_000 + "b",
    "marks": "a" + "\u0301" * 1_000_000,
    "blanks": "a" + " " * 1_000_000 + "b",
    "flags": "🇫🇷" * 250_000,
    "dots": "." * 1_000_000,
    "fences": "```a\n" * 100_000,
    "names": "A: b\n" * 50_000,
    "short lines": "a\n" * 200_000,
}


@pytest.mark.alone
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", NASTY)
def test_time_grows_no_faster_than_the_text(kind: str) -> None:
    whole = NASTY[kind]
    part = whole[: len(whole) // 8]

    def cut_all(text: str) -> None:
        assert in_batches(text, available=100_000, count=by_quarters)[-1].end == len(text)

    # Were it quadratic it would be 64 times.
    assert least_s(lambda: cut_all(whole)) < 20 * least_s(lambda: cut_all(part)) + 0.1


def by_quarters(texts: Sequence[str]) -> list[int]:
    return [-(-len(text) // 4) for text in texts]


def least_s(work: object) -> float:
    """The least of two: what else the machine does only adds to it."""
    assert callable(work)
    tracer = sys.gettrace()
    sys.settrace(None)  # whoever measures coverage makes our own code slow, and C's not
    try:
        times = [time.perf_counter()]
        for _ in range(2):
            work()
            times.append(time.perf_counter())
    finally:
        sys.settrace(tracer)
    return min(after - before for before, after in itertools.pairwise(times))
