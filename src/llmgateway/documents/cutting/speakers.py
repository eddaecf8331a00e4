"""Who speaks: labels before a line's first colon that behave like names."""

# ruff: noqa: RUF001  the marks and words of all scripts

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator

_TIME = r"\d{1,3}:\d{2}(?::\d{2})?(?:[.,]\d{1,3})?(?:[ \u202f]?[AaPp]\.?[Mm]\.?)?"
# So many and no more: each place where any number may be doubles the work for a text of blanks.
_BLANKS = r"[^\S\n]{0,9}"
# An optional timestamp, the label, an optional timestamp in brackets, a colon that is no part of a time or an address.
_LABEL = re.compile(
    rf"{_BLANKS}(?:[\[(]?{_TIME}(?:{_BLANKS}(?:-->|[-–—]){_BLANKS}{_TIME})?[\])]?{_BLANKS}(?:[-–—|]{_BLANKS})?)?"
    rf"(?:\*\*|__)?(?P<label>[^\W\d_][^\n:：|*<>{{}}\[\]#=/\\]{{0,39}}?)"
    rf"(?:{_BLANKS}[\[(]{_TIME}[\])]|[^\S\n]{_TIME})?(?:\*\*|__)?{_BLANKS}"
    r"(?:：|:(?:\*\*|__)?(?=\s|\Z|[^\x00-\x7f]|[\"']))"
)
_VISIBLE = re.compile(r"\S")
# What stands before a colon in any text, and is nobody.
_NOBODY = frozenset(
    re.split(
        r",\s+",
        """note, notes, nb, n.b, ps, p.s, warning, caution, attention, important, tip, hint, todo, example,
        examples, e.g, i.e, question, answer, result, results, summary, conclusion, total, date, time, place,
        location, subject, re, fw, fwd, cc, from, to, title, author, agenda, page, chapter, section, part, step,
        figure, table, appendix, source, sources, topic, url, participants, attendees, present, absent, action,
        actions, decision, decisions, remember, at, um, à, om, kl, в,
        hinweis, achtung, wichtig, beispiel, datum, ort, betreff, thema,
        frage, quelle, ergebnis, schritt, kapitel, seite, abschnitt, tabelle, abbildung, teilnehmer,
        zusammenfassung, anmerkung, remarque, exemple, lieu, objet, sujet, étape, chapitre, tableau, résumé,
        nota, ejemplo, fecha, lugar, asunto, tema, paso, capítulo, página, resumen, advertencia, importante,
        esempio, luogo, oggetto, passo, capitolo, pagina, attenzione, avviso, opmerking, let op, примечание,
        внимание, пример, дата, место, тема, вопрос, итог, шаг, глава, таблица, важно, 注, 注意, 备注, 備註, 例, 例如,
        日期, 时间, 時間, 地点, 地點, 主题, 主題, 总结, 結論, 结论, 日時, 場所, 議題, 備考, 参考, 참고,
        주의, 날짜, 장소, 주제, 예, ملاحظة, تنبيه, مثال, التاريخ, المكان, הערה, דוגמה, תאריך, नोट, ध्यान दें, उदाहरण,
        दिनांक, หมายเหตุ, ตัวอย่าง""",
    )
)
# Small words within names.
_PARTICLES = frozenset(
    re.split(
        r",\s+",
        """af, al, am, an, and, av, bin, bint, da, dal, das, de, dei, del, della, den, der, di, do, dos, du, e, el,
        et, i, ibn, la, las, le, los, och, og, te, ten, ter, the, und, van, vom, von, y, zu, zum, zur, и, та""",
    )
)
# "He says" is no name.
_SAYS = ("说", "說", "道", "曰", "问", "問", "答")
_LONGEST_NAME, _MOST_WORDS, _FEW_WORDS, _FEW_CHARS = 30, 4, 3, 8
_SENTENCE_MARKS = re.compile(r"[!?;,…。！？、،؛।]|\w{4,}\.(?:\s|$)")
_REPEATED = 2


class Speakers:
    """The labels of one text that name who speaks."""

    def __init__(self, text: str) -> None:
        labels = Counter(label for line in _labelled_lines(text) if not _is_nobody(label := _named(line)))
        self.names = frozenset(
            label
            for label, times in labels.items()
            if (times >= _REPEATED and _may_recur(label)) or _is_like_a_name(label)
        )
        self.lines = sum(labels[name] for name in self.names)

    def of(self, text: str, start: int, end: int) -> str | None:
        """Say who is named at the beginning of a line or a paragraph; `None`: nobody."""
        line = _labelled(text, start, end)
        name = _named(line) if line else None
        return name if name in self.names else None


def is_bare(text: str, start: int, end: int) -> bool:
    """Whether a line is a label and nothing else: what is said follows below it."""
    line = _labelled(text, start, end)
    return line is not None and not _VISIBLE.search(text, line.end(), end)


def _labelled_lines(text: str) -> Iterator[re.Match[str]]:
    """Find labels line by line: one search through a long text would hold up all other threads until its end."""
    start = 0
    while True:
        if line := _LABEL.match(text, start):
            yield line
        end = text.find("\n", start)
        if end < 0:
            return
        start = end + 1


def _labelled(text: str, start: int, end: int) -> re.Match[str] | None:
    first = _VISIBLE.search(text, start, end)
    return _LABEL.match(text, first.start(), end) if first else None


def _named(line: re.Match[str]) -> str:
    return " ".join(line["label"].split())


def _is_nobody(label: str) -> bool:
    words = re.sub(r"[\d.)(\s]+$", "", label).casefold()
    return words in _NOBODY or (words.partition(" ")[0] in _NOBODY and label[-1:].isdigit())


def _may_recur(label: str) -> bool:
    """Whether it is a label where it comes again, though it is not like a name: `speaker 1`, `the interviewer`."""
    return len(label.split()) <= _FEW_WORDS and not _is_of_a_sentence(label)


def _is_like_a_name(label: str) -> bool:
    words = label.split()
    if len(label) > _LONGEST_NAME or len(words) > _MOST_WORDS or _is_of_a_sentence(label):
        return False
    if any(_has_no_case(char) for char in label):
        return len(label) <= _FEW_CHARS or len(words) > 1
    return any(map(_is_capital, words)) and all(
        _is_capital(word) or word.casefold() in _PARTICLES or word.isdigit() for word in words
    )


def _is_of_a_sentence(label: str) -> bool:
    return _SENTENCE_MARKS.search(label) is not None or (len(label) > 1 and label.endswith(_SAYS))


def _is_capital(word: str) -> bool:
    first = next((char for char in word if char.isalpha()), "")
    # d'Artagnan, al-Rashid
    return first.isupper() or first.istitle() or any(part[:1].isupper() for part in re.split("['’-]", word)[1:])


def _has_no_case(char: str) -> bool:
    return unicodedata.category(char) == "Lo"
