from llmgateway.documents.readers.content import Content
from llmgateway.documents.readers.plain import is_text, text_of


def test_whatever_has_characters_is_a_text_and_stays_as_it_is() -> None:
    content = Content(b"  a\tb  \n\n\n c ")

    assert is_text(content)
    assert text_of(content) == "  a\tb  \n\n\n c "
