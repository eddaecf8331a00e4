"""Where sentences, words and characters end, in any script: ICU, the one module that imports it.

Sources: Unicode Standard Annex 29; ICU's dictionaries for the scripts that write no space between words.
"""

# ruff: noqa: RUF001  the marks and words of all scripts

import re
from array import array
from collections.abc import Iterable, Sequence

# UTF-16 cannot have them alone, and ICU works in UTF-16; the stand-in is as long.
_SURROGATE = re.compile("[\ud800-\udfff]")
# Titles and the like, after which a name or a number follows: a full stop, and yet no end. Only those that hardly ever
# end a sentence: an end too few costs nothing here, an end too many cuts a sentence in two.
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"'«“„‘-])(?:"
    # English
    r"Mr|Mrs|Ms|Mx|Dr|Prof|St|Gen|Col|Capt|Lt|Sgt|Cpl|Maj|Rev|Hon|Gov|Sen|Rep|Pres|Messrs|Fig|Figs|Eq|Vol|Nos?|pp?|vs|cf|"
    r"e\.g|i\.e|approx|"
    # German
    r"Hr|Fr|Nr|Bd|Abs|Art|Abb|Kap|Tel|bzw|ca|vgl|z\. ?B|d\. ?h|u\. ?a|i\. ?d\. ?R|s\. ?o|Dipl|Ing|"
    # French, Spanish, Portuguese, Italian
    r"MM?|Mme|Mlle|Mgr|p\. ?ex|chap|env|Sra?|Srta|D[ñn]a|Uds?|p\. ?ej|núm|pág|Exm[oa]|Sig|Sigg|Dott|Avv|Geom|"
    # Dutch, Swedish, Danish, Polish, Czech
    r"dhr|mevr|drs|bijv|t\.ex|bl\.a|f\.eks|np|tzn|tzv|ul|"
    # Russian, Ukrainian, Bulgarian, Greek
    r"г|гг|ул|им|т\. ?е|т\. ?к|тов|акад|проф|доц|гл|стр|рис|см|пр|св|κ|κα|κκ|π\.χ|δηλ|"
    # An initial
    r"[^\W\d_]"
    r")\.\s*$"
)
_TAIL_CHARS = 24
# As ICU does where it is told that a text is Greek: the semicolon is its question mark.
_GREEK_QUESTION = re.compile("(?<=[\u0370-\u03ff\u1f00-\u1fff])[;\u037e][\"'»”’)]*\\s+")
_GREEK = re.compile("[\u0370-\u03ff\u1f00-\u1fff][;\u037e]")


def sentence_ends(text: str) -> Sequence[int]:
    """Give the offset after each sentence and the white space behind it, the last being the text's end.

    The end of a line is no end of a sentence: many a text has its lines broken wherever the page was full.
    """
    from icu4py.breakers import SentenceBreaker  # noqa: PLC0415  42 MB on disk, for those who cut documents

    ends = array("L")
    end = 0
    for sentence in SentenceBreaker(_sound(text).replace("\n", " "), "root"):
        if end and _ABBREVIATION.search(text, max(end - _TAIL_CHARS, 0), end):
            ends.pop()
        end += len(sentence)
        ends.append(end)
    return array("L", sorted({*ends, *_greek_questions(text)})) if _GREEK.search(text) else ends


def word_ends(text: str) -> Sequence[int]:
    """Give the offset after each word and each mark between words."""
    from icu4py.breakers import WordBreaker  # noqa: PLC0415  as above

    return _added_up(WordBreaker(_sound(text), "root"))


def character_ends(text: str) -> Sequence[int]:
    """Give the offset after each character as people see it: a letter with its marks, an emoji of several people."""
    from icu4py.breakers import CharacterBreaker  # noqa: PLC0415  as above

    return _added_up(CharacterBreaker(_sound(text), "root"))


def _added_up(pieces: Iterable[str]) -> Sequence[int]:
    # The breakers' own offsets count UTF-16's units; the lengths of their pieces are ours.
    ends = array("L")
    end = 0
    for piece in pieces:
        end += len(piece)
        ends.append(end)
    return ends


def _greek_questions(text: str) -> list[int]:
    return [question.end() for question in _GREEK_QUESTION.finditer(text)]


def _sound(text: str) -> str:
    try:
        text.encode()  # ten times as fast as a search, during which no other thread runs
    except UnicodeEncodeError:
        pass
    else:
        return text
    return _SURROGATE.sub("\ufffd", text)
