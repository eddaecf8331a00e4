import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.upstream.demo_answer import answer_chat, answer_completion, count_tokens, split_pieces

PIECES = [
    ("one two", ["one", " two"]),
    ("international", ["intern", "ationa", "l"]),
    ("漢字 かな", ["漢", "字", " か", "な"]),
    ("👍🏽 ok\n\n", ["👍🏽", " ok", "\n\n"]),
    ("", []),
]


@pytest.mark.parametrize(("text", "pieces"), PIECES, ids=[text for text, _ in PIECES])
def test_a_piece_is_a_short_word_or_an_ideograph_with_the_space_before_it(text: str, pieces: list[str]) -> None:
    assert split_pieces(text) == pieces
    assert count_tokens(text) == len(pieces)


@given(st.text())
def test_pieces_join_to_the_text(text: str) -> None:
    assert "".join(split_pieces(text)) == text


def test_a_limit_holds_for_every_choice() -> None:
    body = {"messages": [{"role": "user", "content": "one two three"}], "n": 2, "max_tokens": 2}

    answer = answer_chat(body, "echo", drop_unsupported=False)

    assert answer.choices == [["one", " two"], ["one", " two"]]
    assert answer.finish_reasons == ["length", "length"]
    assert answer.completion_tokens == 4


def test_every_message_counts_as_prompt() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one two"}]

    both = answer_chat({"messages": messages}, "echo", drop_unsupported=False)
    one = answer_chat({"messages": messages[1:]}, "echo", drop_unsupported=False)

    assert both.prompt_tokens > one.prompt_tokens > 0


def test_a_summary_of_a_prompt_is_one_of_its_sentences() -> None:
    answer = answer_completion({"prompt": "The ship sank. It rained."}, "summary", drop_unsupported=False)

    assert "".join(answer.choices[0]) in {"The ship sank.", "It rained."}
