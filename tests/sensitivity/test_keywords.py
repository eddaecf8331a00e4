from llmgateway.sensitivity.keywords import KEYWORDS


def test_every_category_of_the_contract_has_words() -> None:
    assert set(KEYWORDS) == {
        *("authentication", "personal", "financial", "health", "business", "legal", "code_security"),
    }
    assert all(len(words) >= 10 for words in KEYWORDS.values())


def test_words_are_in_lower_case_and_not_too_short_to_mean_something() -> None:
    words = [word for words in KEYWORDS.values() for word in words]

    assert [word for word in words if word != word.lower() or len(word) < 3] == []
    assert len(set(words)) == len(words)
