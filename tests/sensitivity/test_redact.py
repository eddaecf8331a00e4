import json
import time

from llmgateway.sensitivity.redact import Redaction
from llmgateway.sensitivity.scan import Scanner
from tests.sensitivity.examples import GITHUB, SECRETS

SCANNER = Scanner(keywords=["falcon"])


def redacted(*texts: str, taken: str = "", is_json: bool = False) -> tuple[list[str], dict[str, str]]:
    redaction = Redaction(SCANNER, taken)
    for text in texts:
        assert redaction.look(text, is_json) == text
    return [redaction.replace(text, is_json) for text in texts], dict(redaction.values)


def test_every_secret_of_the_corpus_is_gone_and_comes_back() -> None:
    for one in SECRETS:
        (text,), values = redacted(one.text)

        assert one.secret not in text
        assert SCANNER.scan(text).score < 0.7
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
        assert text == one.text


def test_the_same_value_has_the_same_placeholder_in_every_text() -> None:
    texts, values = redacted("to maria@example.org and li@example.org", "from maria@example.org", "tell falcon")

    assert texts == ["to [EMAIL_1] and [EMAIL_2]", "from [EMAIL_1]", "tell [KEYWORD_1]"]
    assert values == {"[EMAIL_1]": "maria@example.org", "[EMAIL_2]": "li@example.org", "[KEYWORD_1]": "falcon"}


def test_what_is_known_by_its_name_is_taken_out_where_it_stands_alone_too() -> None:
    texts, _ = redacted("password: Winter2026!x", "I typed Winter2026!x twice")

    assert texts == ["password: [PASSWORD_1]", "I typed [PASSWORD_1] twice"]


def test_a_placeholder_that_the_client_wrote_is_not_used() -> None:
    texts, values = redacted("maria@example.org", taken="what is [EMAIL_1]?")

    assert texts == ["[EMAIL_2]"]
    assert list(values) == ["[EMAIL_2]"]


def test_values_within_json_are_known_as_what_they_mean() -> None:
    arguments = json.dumps({"password": 'a"b\\c9!d', "mail": "maria@example.org"})

    (text,), values = redacted(arguments, is_json=True)

    assert json.loads(text)["mail"] == "[EMAIL_1]"
    assert values["[EMAIL_1]"] == "maria@example.org"


def test_words_of_the_language_stay() -> None:
    (text,), values = redacted(f"the password and the salary, {GITHUB}")

    assert text == "the password and the salary, [GITHUB_TOKEN_1]"
    assert list(values) == ["[GITHUB_TOKEN_1]"]


def test_thousands_of_values_in_many_texts_take_no_longer_than_their_length() -> None:
    texts = [" ".join(f"person{text}.{n}@example-{n}.com" for n in range(5)) for text in range(1000)]
    started = time.perf_counter()

    found, values = redacted(*texts, taken="\n".join(texts) * 20)

    assert time.perf_counter() - started < 5
    assert len(values) == 5000
    assert found[-1].endswith("[EMAIL_5000]")


def test_what_is_taken_out_everywhere_is_known_in_json_however_it_is_spelled_there() -> None:
    redaction = Redaction(SCANNER, "")
    texts = [json.dumps({"note": "Gehörig2026! it is"}, ensure_ascii=is_ascii) for is_ascii in (True, False)]
    redaction.look("password: Gehörig2026!", False)
    for text in texts:
        redaction.look(text, True)

    assert [redaction.replace(text, True) for text in texts] == ['{"note": "[PASSWORD_1] it is"}'] * 2


def test_a_key_of_several_lines_within_json_comes_back_with_its_lines() -> None:
    lines = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\n" * 3
    key = f"-----BEGIN PRIVATE KEY-----\n{lines}-----END PRIVATE KEY-----"

    texts, values = redacted(json.dumps({"key": key}), is_json=True)

    assert (texts, values) == (['{"key": "[PRIVATE_KEY_1]"}'], {"[PRIVATE_KEY_1]": key})


def test_of_two_values_that_begin_alike_each_is_its_own() -> None:
    texts, _ = redacted("password: Winter2026!", "password: Winter2026!x", "Winter2026!x or Winter2026!")

    assert texts[2] == "[PASSWORD_2] or [PASSWORD_1]"


def test_a_short_word_or_one_of_a_placeholder_is_taken_out_only_where_it_stands_by_itself() -> None:
    redaction = Redaction(Scanner(keywords=["oak", "github_token"]), "")
    text = f"GITHUB_TOKEN is {GITHUB}, oak and soaked"
    redaction.look(text, False)

    assert redaction.replace(text, False) == "[KEYWORD_1] is [GITHUB_TOKEN_1], [KEYWORD_2] and soaked"
