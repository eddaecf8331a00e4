import base64
import json
import random
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmgateway.sensitivity.scan import NOTHING, Scanner
from tests.sensitivity.examples import GITHUB, HARMLESS, SECRETS, Example
from tests.timing import relative_cost

SCANNER = Scanner()
ROOT = Path(__file__).parent.parent.parent
# What text, settings, programs and addresses put around a secret.
AROUND = [
    *[("", ""), ('"', '"'), ("'", "'"), ("(", ")"), ("<", ">"), ("[", "]"), ("**", "**"), ("`", "`"), ("\t", "\r\n")],
    *[("```\n", "\n```"), ('{"a": "', '"}'), ("\\n", "\\n"), ("\\u0022", "\\u0022"), ("%3D", "&x=1"), ("- ", "")],
    *[
        ("https://example.com/?q=", "&x=1"),
        ("key: |\n  ", "\n"),
        ("日本語", "日本語"),
        ("é ", " é"),
        (",", ","),
        ("…", "…"),
    ],
    *[("see ", "."), ("see ", ", thanks!"), ("\u200b", "\u200b"), ("|", "|"), ("—", "—"), ("=", ";"), ("🔑", "🔑")],
]
ANY_CASE = {"iban", "spanish_dni", "spanish_nie", "uk_nino"}
R = random.Random(1)
TEXTS = {
    "prose": ((ROOT / "docs" / "layout.md").read_text() * 3)[:10_000],
    "code": (ROOT / "src" / "llmgateway" / "exchange.py").read_text()[:10_000],
    "json": json.dumps([{"id": n, "at": 1790000000123 + n, "name": f"row {n}", "v": R.random()} for n in range(150)])[
        :10_000
    ],
    "image": "data:image/png;base64," + base64.b64encode(R.randbytes(7_500)).decode(),
}
HOSTILE = [
    *("@", "sk-", "eyJ", "eyJaaaaaaaa.", "-----BEGIN PRIVATE KEY-----", "1", "1-", "DE12 3456 ", "password: ", "://a:"),
    *(
        "a@",
        "a.",
        "bearer ",
        'password: "',
        "\\",
        "[",
        "+1",
        "password is ",
        "secret_key_",
        "token\n   ",
        "AKIA",
        "\x00",
    ),
]


def missed(text: str, secret: str) -> bool:
    found = SCANNER.scan(text)
    at = text.find(secret)
    covered = any(one.start <= at and one.end >= at + len(secret) for one in found.findings if one.replaceable)
    return not SCANNER.is_sensitive(found) or not covered


def test_corpus_is_large_enough() -> None:
    assert len(SECRETS) >= 60
    assert len({one.kind for one in SECRETS}) >= 20
    assert len(set(HARMLESS)) == len(HARMLESS) >= 200


def test_every_secret_is_found_whole_and_called_by_its_name() -> None:
    assert [one.text for one in SECRETS if missed(one.text, one.secret)] == []
    named = [(one.kind, {found.kind for found in SCANNER.scan(one.text).findings}) for one in SECRETS]
    assert [(kind, found) for kind, found in named if kind not in found] == []


def test_at_most_one_in_a_hundred_look_alikes_is_taken_for_a_secret() -> None:
    wrong = [text for text in HARMLESS if SCANNER.is_sensitive(SCANNER.scan(text))]

    assert len(wrong) <= len(HARMLESS) // 100, wrong


@given(st.sampled_from(SECRETS), st.sampled_from(AROUND), st.sampled_from(AROUND), st.text(max_size=20))
@settings(max_examples=400, deadline=None)
def test_secret_is_found_whatever_stands_around_it(
    secret: Example, inner: tuple[str, str], outer: tuple[str, str], words: str
) -> None:
    text = f"{words} {outer[0]} {inner[0]}{secret.text}{inner[1]} {outer[1]}{words}"

    assert not missed(text, secret.secret)


@given(st.sampled_from(SECRETS), st.integers(1, 2))
@settings(max_examples=200, deadline=None)
def test_secret_is_found_within_json_within_json(secret: Example, depth: int) -> None:
    text = secret.text
    for _ in range(depth):
        text = json.dumps({"role": "tool", "content": f"output:\n{text}"})

    assert SCANNER.is_sensitive(SCANNER.scan(text))


@given(st.sampled_from(SECRETS), st.sampled_from([str.upper, str.lower, str.title, str.swapcase]))
@settings(max_examples=300, deadline=None)
def test_case_of_what_stands_around_a_secret_says_nothing(secret: Example, changed: object) -> None:
    assert callable(changed)
    before, _, after = secret.text.partition(secret.secret)
    value = changed(secret.secret) if secret.kind in ANY_CASE else secret.secret

    assert not missed(f"{changed(before)}{value}{changed(after)}", value)


@given(st.text(max_size=300))
@example("İ" * 50 + " password: Winter2026!x")
@example("\u212aE12 3456 7890 1234")
@settings(max_examples=200, deadline=None)
def test_any_text_can_be_scanned(text: str) -> None:
    found = SCANNER.scan(text)

    assert 0.0 <= found.score <= 1.0
    assert all(0 <= one.start <= one.end <= len(text) for one in found.findings)


def test_lone_surrogates_are_no_hiding_place() -> None:
    assert SCANNER.scan(f"\ud800 {GITHUB}").score == 1.0


def test_scores_add_up_without_ever_passing_one() -> None:
    one = SCANNER.scan("write to maria@example.org").score
    two = SCANNER.scan("write to maria@example.org or li@example.org").score
    same = SCANNER.scan("write to maria@example.org, I repeat, Maria@example.org").score

    assert one == same == 0.25
    assert two == pytest.approx(1 - 0.75**2, abs=1e-4)
    assert SCANNER.scan(" ".join(f"u{n}@example.org" for n in range(50))).score <= 1.0


def test_words_alone_never_reach_the_usual_threshold() -> None:
    everything = "password salary diagnosis confidential lawsuit exploit overdraft subpoena passport number nda cvv"

    found = SCANNER.scan(everything)

    assert found.score == 0.5
    assert {"authentication", "business", "financial", "health", "legal"} <= set(found.categories)


def test_words_count_whole_and_never_inside_others() -> None:
    own = Scanner(keywords=["Falcon", "project x", "工资"])

    assert own.scan("the FALCON flies").score == 1.0
    assert own.scan("Project X is late").score == 1.0
    assert own.scan("他的工资很高").score == 1.0
    assert own.scan("falconry, falcon_id and project xylophone") == NOTHING
    assert own.scan("mondays: salaryman, diagnosisless, ndax").score == 0.0


def test_own_patterns_are_secrets() -> None:
    own = Scanner(patterns=[r"EMP-\d{6}"])

    found = own.scan("ask about EMP-204518, please")

    assert (found.score, found.categories) == (1.0, ("custom",))
    assert [(one.start, one.end) for one in found.findings] == [(10, 20)]


def test_what_overlaps_is_one_finding() -> None:
    found = [one for one in SCANNER.scan(f"api_token = '{GITHUB}'").findings if one.replaceable]

    assert [one.kind for one in found] == ["github_token"]


def test_what_lies_within_another_finding_makes_it_no_shorter_and_the_first_row_names_it() -> None:
    scanner = Scanner(patterns=["<.{1,40}>", "CODE-[0-9]+"])

    texts = "see <to maria@example.org now>", "password: xY9!CODE-123!"
    found = [[one for one in scanner.scan(text).findings if one.replaceable] for text in texts]

    assert [[(one.kind, one.start, one.end) for one in some] for some in found] == [
        [("custom", 4, 30)],
        [("custom", 10, 23)],
    ]


def test_a_line_break_of_json_is_no_letter_of_an_address() -> None:
    text = json.dumps("write to\nmaria@example.org")

    (found,) = SCANNER.scan(text).findings

    assert text[found.start : found.end] == "maria@example.org"


def test_addresses_alone_never_reach_the_usual_threshold() -> None:
    authors = ", ".join(f"author{number}@example.org" for number in range(50))

    assert SCANNER.scan(authors).score == 0.6
    assert not SCANNER.is_sensitive(SCANNER.scan(authors))


@pytest.mark.parametrize("threshold", [0.0, 0.25, 1.0])
def test_threshold_itself_is_sensitive(threshold: float) -> None:
    scanner = Scanner(threshold)

    assert scanner.is_sensitive(scanner.scan("maria@example.org")) is (threshold <= 0.25)
    assert scanner.is_sensitive(scanner.scan(GITHUB))
    assert scanner.is_sensitive(NOTHING) is (threshold == 0.0)


@pytest.mark.alone
@pytest.mark.parametrize("name", TEXTS)
def test_ten_kilobytes_are_scanned_within_a_millisecond(name: str) -> None:
    text = TEXTS[name]
    assert not SCANNER.is_sensitive(SCANNER.scan(text))

    # Three microseconds each: a millisecond is 330 of them.
    assert relative_cost(lambda: SCANNER.scan(text), number=20) < 330


@pytest.mark.alone
@pytest.mark.parametrize("part", HOSTILE)
def test_time_grows_with_the_text_and_no_faster(part: str) -> None:
    def cost_s(size: int) -> float:
        text = (part * size)[:size]
        best = 9.0
        for _ in range(3):
            started = time.thread_time()  # others may use the machine as well
            SCANNER.scan(text)
            best = min(best, time.thread_time() - started)
        return best

    cost_s(1_000)

    # Sixteen times the text; a square would be 256 times the cost.
    assert cost_s(160_000) < 40 * cost_s(10_000) + 0.002
