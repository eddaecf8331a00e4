import pytest

from llmgateway.documents.readers.content import Content
from llmgateway.documents.readers.markdown import is_markdown, text_of


@pytest.mark.parametrize(
    "text",
    [
        "# Minutes\n\n- one\n- two\n",
        "See [the site](https://example.org) and **do** it.",
        "| a | b |\n|---|---|\n\n```\ncode\n```",
        "> quoted\n\nuse `code`",
    ],
)
def test_two_kinds_of_marks_are_markdown(text: str) -> None:
    assert is_markdown(Content.of(text))
    assert text_of(Content.of(text)) == text


@pytest.mark.parametrize("text", ["", "#channel is ours", "- only\n- a list", "a * b ** c", "Anna: hello\nBen: hi"])
def test_one_mark_alone_is_in_many_a_plain_text(text: str) -> None:
    assert not is_markdown(Content.of(text))
