"""A real extractive summary without a model: the sentences that say most, in the order of the text.

Pure and language-neutral: no list of words, no network. Word frequency with the commonest words weighed down, after
H. P. Luhn, "The Automatic Creation of Literature Abstracts" (1958), and K. Spärck Jones's inverse frequency (1972).
"""

import heapq
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from operator import add

MAX_SENTENCES = 5
SHARE = 0.15
MAX_SENTENCE_CHARS = 300

# These end a sentence wherever they stand: Chinese and Japanese, Devanagari, Arabic and Urdu, Armenian, Ethiopic,
# Khmer, Burmese, Tibetan. The others of the pattern need a space, a blank line or the end behind them.
_ALWAYS = "。！？｡।॥؟۔։።፧፨။៕།"  # noqa: RUF001  marks of other scripts are what is meant
_CLOSING = "\"'”’»)\\]」』）"  # noqa: RUF001  likewise
# Possessive, and never begun within a run of marks: a megabyte of them is read once.
_END = re.compile(
    rf"[{_ALWAYS}]++[{_CLOSING}]*+|(?<![.!?…])[.!?…]++[{_CLOSING}]*+(?=\s|\Z)|\n[^\S\n]*+\n",
)
_SPACE = re.compile(r"\s+")
_PUNCTUATION = (
    "!-/:-@\\[-`{-~\u00a1-\u00a9\u00ab-\u00b4\u00b6-\u00b9\u00bb-\u00bf\u2000-\u206f\u3000-\u303f\uff01-\uff0f"
)
_WORD = re.compile(rf"[^\s{_PUNCTUATION}{_ALWAYS}]+")
# Thai, Lao, Burmese, Khmer, kana and ideographs: written without spaces, so pairs of characters stand in for words.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_FULL_STOP = "."
_LONGEST_ABBREVIATION = 3
_WORD_BREAK = re.compile(r"[\s(.\-]")
_VOWELS = frozenset("aeiouy")
_MOST_ACCENTS = 8


def summarize(text: str) -> str:
    """Pick at most `MAX_SENTENCES` sentences, or `SHARE` of a shorter text, at least one; empty for an empty text.

    The same text always gives the same summary. Takes O(n log n) time, about 0.5 s for 1 MB.
    """
    sentences = list(dict.fromkeys(split_sentences(text)))
    if not sentences:
        return ""
    scores = _scores([list(terms(sentence)) for sentence in sentences])
    wanted = min(MAX_SENTENCES, max(1, math.ceil(len(sentences) * SHARE)))
    best = heapq.nlargest(wanted, range(len(sentences)), key=lambda index: (scores[index], -index))
    return " ".join(sentences[index] for index in sorted(best))


def split_sentences(text: str) -> Iterator[str]:
    """Cut a text of any script into sentences of at most `MAX_SENTENCE_CHARS` characters, white space made even."""
    start = 0
    for end in _END.finditer(text):
        if not _is_abbreviation(text, end):
            yield from _cut(_SPACE.sub(" ", text[start : end.end()]).strip())
            start = end.end()
    yield from _cut(_SPACE.sub(" ", text[start:]).strip())


def terms(text: str) -> Iterator[str]:
    """Words in one case; in scripts without spaces, each pair of neighbouring characters."""
    for word in _WORD.findall(text.casefold()):
        if _UNSPACED.search(word) is None:
            yield word
        else:
            yield from _pairs(word)


def _pairs(word: str) -> Iterator[str]:
    start = 0
    for run in _UNSPACED.finditer(word):
        if run.start() > start:
            yield word[start : run.start()]
        letters = run.group()
        yield from map(add, letters, letters[1:]) if len(letters) > 1 else letters
        start = run.end()
    if start < len(word):
        yield word[start:]


def _is_abbreviation(text: str, end: re.Match[str]) -> bool:
    """Whether this full stop belongs to a word: `J.`, `Dr.`, or one that the next word goes on from in lower case."""
    if end.group() != _FULL_STOP:
        return False
    stop = end.start()
    if text[stop + 1 : stop + 4].lstrip()[:1].islower():
        return True
    before = _WORD_BREAK.split(text[max(0, stop - _LONGEST_ABBREVIATION - 1) : stop])[-1]
    if len(before) == 1:
        return before.isalpha()
    return len(before) <= _LONGEST_ABBREVIATION and before.istitle() and _VOWELS.isdisjoint(before.lower())


def _cut(sentence: str) -> Iterator[str]:
    """Cut what has no sentence marks, at a space where there is one, never between a letter and its accent."""
    start = 0
    while len(sentence) - start > MAX_SENTENCE_CHARS:
        end = sentence.rfind(" ", start + MAX_SENTENCE_CHARS // 2, start + MAX_SENTENCE_CHARS)
        if end == -1:
            end = _before_a_letter(sentence, start + MAX_SENTENCE_CHARS)
        yield sentence[start:end].strip()
        start = end
    if rest := sentence[start:].strip():
        yield rest


def _before_a_letter(text: str, end: int) -> int:
    """Step back from an accent to its letter; a longer row of accents is none that anybody writes."""
    near = range(end, end - _MOST_ACCENTS, -1)
    return next((at for at in near if not unicodedata.category(text[at]).startswith("M")), end)


def _scores(sentences: Sequence[Sequence[str]]) -> list[float]:
    """Weigh each sentence by its words: often in the text, but not in nearly every sentence of it."""
    count = Counter(term for sentence in sentences for term in sentence)
    spread = Counter(term for sentence in sentences for term in set(sentence))
    weight = {term: math.log(times) * math.log((len(sentences) + 1) / spread[term]) for term, times in count.items()}
    return [
        # Dividing by the full length would prefer headings, by nothing the longest; the first sentences often say most.
        sum(weight[term] for term in set(sentence)) / (len(sentence) + 4) ** 0.75 * (1 + 0.5 / (1 + index))
        for index, sentence in enumerate(sentences)
    ]
