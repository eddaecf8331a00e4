from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmgateway.documents.question import Answer, AnswerError, Question
from llmgateway.documents.running.answering import MOST_FOLLOW_UPS, Joint, follow_up, resumed, whole

QUESTION = Question(
    step="batch:0-9",
    type="initial",
    messages=({"role": "system", "content": "S"}, {"role": "user", "content": "U"}),
    max_tokens=800,
    schema={},
)
LAST = Question(step="batch:0-9", type="initial", messages=QUESTION.messages, max_tokens=800, last=True)
PIECES = st.lists(st.text(alphabet="ab \n", max_size=12), max_size=8)


def cut(text: str) -> Answer:
    return Answer(text=text, finish_reason="length")


def test_an_answer_that_ended_by_itself_is_whole() -> None:
    assert follow_up(QUESTION, [Answer(text="Done.")]) is None
    assert whole(QUESTION, [Answer(text="Done.")]) == "Done."


def test_pitfall_114_an_answer_that_was_cut_off_is_gone_on_with() -> None:
    first = follow_up(QUESTION, [cut("The plan is to mo")])
    assert first is not None
    second = follow_up(QUESTION, [cut("The plan is to mo"), cut("ve in ")])
    assert second is not None

    answers = [cut("The plan is to mo"), cut("ve in "), Answer(text="May.")]

    assert (first.step, second.step) == ("batch:0-9+1", "batch:0-9+2")
    assert first.type == "continuation"
    assert first.messages[:2] == QUESTION.messages
    assert first.messages[2] == {"role": "assistant", "content": "The plan is to mo"}
    assert first.messages[3]["role"] == "user"
    assert second.messages[2]["content"] == "The plan is to move in "
    assert follow_up(QUESTION, answers) is None
    assert whole(QUESTION, answers) == "The plan is to move in May."


def test_pitfall_114_an_answer_without_an_end_is_a_failure_and_never_a_part() -> None:
    answers = [cut(f"part {number}, ") for number in range(MOST_FOLLOW_UPS)]
    assert follow_up(QUESTION, answers) is not None

    with pytest.raises(AnswerError) as caught:
        follow_up(QUESTION, [*answers, cut("and on")])

    assert (caught.value.kind, caught.value.code) == ("model_error", "answer_too_long")
    assert "part" not in caught.value.message


def test_a_long_answer_is_gone_on_with_within_the_room_that_was_kept_for_it() -> None:
    said = "word " * 10_000 + "the end é"

    after = follow_up(QUESTION, [cut(said)])

    assert after is not None
    shown = after.messages[2]["content"]
    assert said.endswith(shown)
    assert shown.endswith("the end é")
    assert len(shown.encode()) <= QUESTION.max_tokens
    assert after.max_tokens == 500


def test_a_form_is_not_asked_for_in_the_middle_of_an_answer() -> None:
    after = follow_up(QUESTION, [cut('{"a": ')])

    assert after is not None
    assert after.schema is None


@pytest.mark.parametrize(
    ("answers", "kind", "code"),
    [
        ([Answer(text="I cannot.", refusal="No.")], "content_filter", "refused"),
        ([Answer(text="The", finish_reason="content_filter")], "content_filter", "refused"),
        ([cut("The plan"), Answer(text="", refusal="No.")], "content_filter", "refused"),
        ([Answer(text="")], "model_error", "empty_answer"),
        ([Answer(text=" \n")], "model_error", "empty_answer"),
        ([cut("")], "model_error", "empty_answer"),
        ([cut("The plan"), cut(" ")], "model_error", "empty_answer"),
    ],
)
def test_a_refusal_or_nothing_is_no_answer(answers: Sequence[Answer], kind: str, code: str) -> None:
    with pytest.raises(AnswerError) as caught:
        follow_up(QUESTION, answers)

    assert (caught.value.kind, caught.value.code) == (kind, code)


def test_an_empty_refusal_is_none() -> None:
    assert follow_up(QUESTION, [Answer(text="Done.", refusal="")]) is None


def test_a_model_that_has_nothing_to_add_was_at_its_end() -> None:
    answers = [cut("All is said."), Answer(text="")]

    assert follow_up(QUESTION, answers) is None
    assert whole(QUESTION, answers) == "All is said."


@pytest.mark.parametrize(
    ("said", "more", "text"),
    [
        ("We will move the launch to", "move the launch to March.", "We will move the launch to March."),
        ("会议决定明年三月开始新的项目", "三月开始新的项目,预算", "会议决定明年三月开始新的项目,预算"),
        ("| a | b |\n| a | b |\n", "| a | b |\n| c | d |\n", "| a | b |\n| a | b |\n| a | b |\n| c | d |\n"),
        ("the the", "the end", "the thethe end"),
        ("go", "go on", "gogo on"),
        ("one two", " three", "one two three"),
    ],
)
def test_last_words_are_said_once_where_it_is_certain_that_they_were_repeated(said: str, more: str, text: str) -> None:
    assert whole(LAST, [cut(said), Answer(text=more)]) == text


def test_blank_lines_around_an_answer_go_and_those_within_stay() -> None:
    text = "\n  \n    code\n\n\n| a |\n  \n"

    assert whole(QUESTION, [Answer(text=text)]) == "    code\n\n\n| a |"
    assert whole(LAST, [Answer(text=text)]) == text


def test_what_is_written_down_already_is_not_asked_for_again() -> None:
    after = resumed(LAST, "Half of ", 1)

    assert after.last
    assert after.step == "batch:0-9+1"
    assert after.messages[-2] == {"role": "assistant", "content": "Half of "}


def test_where_nothing_is_written_down_the_question_is_asked_as_it_was() -> None:
    after = resumed(LAST, "", 2)

    assert after.step == "batch:0-9+2"
    assert after.messages == LAST.messages
    assert after.max_tokens == LAST.max_tokens


@settings(deadline=None)
@given(said=st.text(alphabet="ab \n", min_size=1, max_size=60), pieces=PIECES, repeated=st.integers(0, 60))
@example(said="We will move the launch to", pieces=["March"], repeated=20)
@example(said="a" * 500, pieces=["a" * 300, "a" * 300, "b"], repeated=0)
def test_pieces_as_they_come_are_the_text_that_is_kept(said: str, pieces: list[str], repeated: int) -> None:
    pieces = [*said[-repeated:], *pieces] if repeated else pieces
    joint = Joint(said)

    shown = said + "".join([joint.feed(piece) for piece in pieces]) + joint.end()

    assert shown == whole(LAST, [cut(said), Answer(text="".join(pieces))])


def test_pieces_are_not_held_back_longer_than_they_may_be_a_repetition() -> None:
    joint = Joint("We will move the launch to")

    assert joint.feed("move the ") == ""
    assert joint.feed("launch to") == ""
    assert joint.feed(" March") == " March"
    assert joint.feed(" next") == " next"
    assert joint.end() == ""
