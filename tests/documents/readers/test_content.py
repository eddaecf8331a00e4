from llmgateway.documents.readers.content import Content, with_line_feeds


def test_every_system_s_line_ends_become_line_feeds_and_nothing_else_changes() -> None:
    assert with_line_feeds("a\r\nb\rc\n\r\nd\u2028e\x0b\x85 f ") == "a\nb\nc\n\nd\u2028e\x0b\x85 f "
    assert with_line_feeds("a\nb") == "a\nb"


def test_bytes_become_characters_when_they_are_needed() -> None:
    assert Content("é\r\n".encode()).text == "é\n"
    assert Content("ą".encode("iso8859-2"), "iso-8859-2").text == "ą"


def test_what_is_text_already_needs_no_bytes() -> None:
    assert Content.of("a").text == "a"
