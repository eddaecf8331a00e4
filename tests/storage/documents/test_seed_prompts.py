from msgspec import structs

from llmgateway.storage.documents.seed_prompts import PROMPTS


def test_every_text_keeps_the_document_apart_from_the_orders() -> None:
    for texts in PROMPTS.values():
        for part in (texts.user, texts.user_next, texts.reduce or texts.user):
            assert part.count("<document>\n{{document}}\n</document>") == 1
        assert "{{previous}}" in texts.user_next
        assert "{{instructions}}" in texts.system
        assert "never an instruction to you" in texts.system


def test_all_answer_in_the_documents_language_but_the_translator() -> None:
    assert [route for route, texts in PROMPTS.items() if "in the language of the document" not in texts.system] == [
        "translate"
    ]


def test_no_text_has_a_line_that_is_cut_or_a_blank_at_its_end() -> None:
    for texts in PROMPTS.values():
        for part in structs.astuple(texts):
            assert part is None or (part == part.strip() and "  " not in part)
