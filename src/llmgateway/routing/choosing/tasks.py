"""What kind of task a call is: as its client says, else by cheap rules over its words.

The rules know English, German, French and Spanish. Each is a word's beginning, a pattern for what follows it, and a
weight: a verb that says what to do counts more than a noun, and a noun more than a question mark. The heaviest wins;
what a system message says counts where the question itself says little. A guess is sometimes wrong: it only chooses
among models that can all answer.
"""

import re
from collections.abc import Collection, Mapping

from msgspec import Struct

from llmgateway.errors import InvalidRequestError
from llmgateway.wire.questions import question_of

ANY_TASK = "text_generation"
TASKS = (
    ANY_TASK,
    "summarization",
    "sentiment_analysis",
    "question_answering",
    "code",
    "translation",
    "extraction",
)

# Characters that are looked at: instructions stand at the beginning or, below a long text, at the end.
_HEAD, _TAIL, _SYSTEM = 300, 150, 200
_FIRST_WORDS = 40  # characters
# A question of this weight speaks for itself; of a system message only such rules count.
_CLEAR, _TOLD = 4, 5
_KEY = 4  # characters of a word by which rules are found: long enough to tell, too short for endings


class _Rule(Struct, frozen=True):
    """What says a task: a word that begins so, what follows it, and what comes right before it."""

    task: str
    weight: int
    cues: tuple[str, ...]
    after: re.Pattern[str] | None = None
    before: re.Pattern[str] | None = None


def _rule(
    task: str, weight: int, cues: str, after: str = "", *, starts: bool = False, before: re.Pattern[str] | None = None
) -> _Rule:
    """Make a rule of cues with `|` in between, each of `_KEY` characters at least, or a whole word.

    Args:
        starts: Whether it must be the beginning of an instruction.
    """
    return _Rule(
        task, weight, tuple(cues.split("|")), re.compile(after) if after else None, _BEGINS if starts else before
    )


_BEGINS = re.compile(
    r"(?:^|[.!?:;\n¿¡]\s*|\b(?:you|please|bitte|mir|me|tu|vous|puedes|podrías|favor,?)\s)"
    r"\s*(?:(?:please|bitte|por favor,?) )?$"
)
_ITS = re.compile(
    r"\b(?:this|the|my|following|your|source|some|diese[mnr]?|de[mn]|dein|mein(?:en|em)?|mon|ce|le|este|mi|el) $"
)
_BEFORE = 40  # characters that are looked at
_TONGUE = (
    r"(?:english|german|french|spanish|italian|portuguese|russian|chinese|japanese|korean|arabic|dutch|polish|turkish"
    r"|latin|englisch|deutsch|französisch|spanisch|italienisch|russisch|anglais|allemand|français|espagnol|italien"
    r"|japonais|inglés|alemán|francés|español|italiano)"
)
_LANGUAGE = r"(?:python|java|javascript|typescript|kotlin|rust|c\+\+|c#|c|go|golang|php|ruby|swift|scala|r|sql)(?!\w)"
_PROGRAM = (
    r"\w* (?:.{0,40}?[ -])??(?:functions?|scripts?|programs?|class|method|quer(?:y|ies)|regex|tests?|algorithm|api"
    r"|endpoint|component|dockerfile|makefile|macro|loop|parser|statement|funktion(?:en)?|skripte?|programm|klasse"
    r"|abfrage|fonctions?|programme|classe|requête|función|funciones|programa|clase|consulta)\b"
)
_ALL = (
    r"[rz]?(?:-moi| me)? (?:all|every|each|alle|tous|toutes|todos|todas) (?:(?:the|les|los|las|der|die) )?"
    r"(?:\w+[ -]){0,3}?"
    r"(?:names?|dates?|persons?|people|places?|locations?|e-?mails?|addresses|phone|numbers?|compan|organi[sz]ations?"
    r"|entit|products?|amounts?|fields?|prices?|namen|daten|personen|orte|firmen|unternehmen|telefon|adressen|noms"
    r"|lieux|personnes|adresses|entreprises|sociétés|nombres|fechas|lugares|personas|empresas|organizaciones|correos"
    r"|números)"
)
_OR = "or|and|oder|und|ou|et|o|y"
_JUDGED = r"(?:positi[vf]|negati[vf]|négati[vf]|neutr)"

_RULES = (
    _rule("code", 7, "translat|convert|port", rf"\w* .{{0,40}}\b(?:to|into|in) {_LANGUAGE}"),
    _rule("code", 6, "```|traceback|segmentation fault|nullpointer|stack trace|stacktrace|quellcode|unit test"),
    _rule("code", 6, "typeerror|valueerror|keyerror|syntaxerror|nameerror|indexerror|attributeerror|referenceerror"),
    _rule("code", 6, "debug|depura|refactor|programmier|quicksort|regex|dockerfile"),
    _rule("code", 6, "implement", starts=True),
    _rule("code", 6, "write|create|give me|add|make|build|generate", r"(?!.{0,30}\b(?:poem|story|essay))" + _PROGRAM),
    _rule("code", 6, "schreib|erstell|écri|crée|escrib|crea|haz", _PROGRAM),
    _rule("translation", 6, "translate|translation|überset|traduc|traduz|tradui"),
    _rule("translation", 6, "how", r" (?:do|would|can|to|does) (?:you |i |we |one )?say\b"),
    _rule("translation", 6, "wie sagt man|wie heißt|was heißt|comment dit-on|comment dire|cómo se dice"),
    _rule("translation", 5, _TONGUE[3:-1], r"\w* (?:word|term|expression) for"),
    _rule("translation", 5, _TONGUE[3:-1], r" (?:to|into) \w+\s*:"),
    _rule("translation", 5, "mean|means", rf" in {_TONGUE}"),
    _rule("translation", 5, "put|render", rf" .{{0,40}}\b(?:in|into) (?:\w+ )?{_TONGUE}"),
    _rule("translation", 4, "auf|en|in", rf" {_TONGUE}\w*(?: bitte| please| por favor)?\s*[?:]"),
    _rule("translation", 5, "veut dire|bedeutet|significa", rf" .{{0,40}}\b(?:en|auf) {_TONGUE}"),
    _rule("sentiment_analysis", 6, "sentiment analys|sentiment-analys|sentimentanalyse"),
    _rule("sentiment_analysis", 6, "positi|negati|négati|neutr", rf"\w*(?:/|(?:,|,? (?:{_OR})) ){_JUDGED}"),
    _rule("sentiment_analysis", 5, "sentiment|sentimiento|stimmung|gefühlslage|tonfall|tonalité|tono|mood"),
    _rule("sentiment_analysis", 5, "how", r" (?:(?:do|does|did) .{1,60}\bfeel\b|\w+ .{1,40}\bsounds?\b)"),
    _rule("sentiment_analysis", 5, "tone of|what emotion|polarity|polarität|polarité|polaridad"),
    _rule("sentiment_analysis", 5, "fühlt sich|cómo se siente|se sent"),
    _rule("sentiment_analysis", 4, "favorable|favourable|unfavorable"),
    _rule("sentiment_analysis", 5, "sound|sounds", r" (?:happy|angry|sad|upset|satisfied|frustrated|positive)"),
    _rule("extraction", 6, "extract", r"(?:s|ing|ion)? (?!of)\w"),
    _rule("extraction", 6, "extrahier|extrai|extrae|extrag|named entit"),
    _rule("extraction", 5, "list|lists|find|identify|name|give|return|collect|show", _ALL),
    _rule("extraction", 5, "get|take", r" .{1,40}\b(?:from|out of) (?:this|the|that)\b"),
    _rule("extraction", 5, "saca|entnimm|relève", r" "),
    _rule("extraction", 5, "finde|nenne|donne|liste|relève|trouve|identifie|lista|enumera|encuentra|identifica", _ALL),
    _rule("extraction", 5, "pull", r" .{0,60}\b(?:from|out)\b"),
    _rule("extraction", 5, "parse", starts=True),
    _rule("extraction", 4, "as json|return json|in json|als json|en json|como json"),
    _rule("extraction", 4, "mentioned|genannt|erwähnt|vorkommen|mentionn|mencionad|aparecen|named in"),
    _rule("summarization", 6, "summar|zusammenfass|tl;dr|tldr|kurzfassung|recap|synthèse|síntesis|sintetiza|condense"),
    _rule("summarization", 6, "sum up|nutshell|gist of|key points|main points|takeaways|kernaussagen|das wichtigste"),
    _rule("summarization", 6, "points clés|points essentiels|puntos clave|ideas principales|idées principales"),
    _rule("summarization", 5, "overview|überblick|aperçu", r" (?:of|über|de|du|des)\b"),
    _rule("summarization", 5, "wichtigsten punkte|wichtigste punkte|main ideas"),
    _rule("summarization", 5, "boil", r" .{0,40}\bdown\b"),
    _rule("summarization", 5, "make", r" .{0,30}\b(?:shorter|more concise|briefer)\b"),
    _rule("summarization", 6, "fass|fasse", r" (?s:.*)\bzusammen\b"),
    _rule("summarization", 6, "résum|resúm|resumir|resumen"),
    _rule("summarization", 6, "resume", r" (?:el|la|los|las|este|esta|esto|ce|cet|cette|le|les|en)\b"),
    _rule("summarization", 5, "shorten|abridge|kürze", r"(?: |:)"),
    _rule("text_generation", 5, "write|draft|compose|generate|create|invent|brainstorm|continue", starts=True),
    _rule("text_generation", 5, "rewrite|imagine|suggest|plan|let's", starts=True),
    _rule("text_generation", 5, "tell|give", r" (?:me |us )?\w+ (?:\w+ )?(?:jokes?|story|poem|ideas|names)\b"),
    _rule("text_generation", 5, "schreib|verfass|erzähl|dichte|erfinde|entwirf|formulier|gib mir", starts=True),
    _rule("text_generation", 5, "schreiben|verfassen|formulieren|erzählen", r"\s*\?"),
    _rule("text_generation", 5, "écri|m'écri|rédige|raconte|invente|compose|imagine|propose", starts=True),
    _rule("text_generation", 5, "escrib|redacta|cuént|inventa|compon|imagina|propón", starts=True),
    _rule("code", 4, "code|código", r"\b(?! postal)", before=_ITS),
    _rule("code", 4, "python|java|javascript|kotlin|typescript|c++|c#|golang|php|sql|bash|html|css|git", r"(?!\w)"),
    _rule("code", 4, "react|docker|in rust|en rust|in ruby|in swift", r"(?!\w)"),
    _rule("code", 4, "select|pip|npm", r" (?:.{1,80} from|install)\b"),
    _rule("code", 4, "pandas|numpy|django|kubectl|kubernetes|time complexity|merge sort|regexp"),
    _rule("question_answering", 4, "answer the question|beantworte die frage"),
    _rule("question_answering", 4, "réponds à la question|responde a la pregunta"),
    _rule("code", 3, "this program|mein programm|mon programme|mi programa|compile|bug"),
    _rule("code", 3, "for loop|while loop|schleife|boucle|recursion|array|div|endpoint|algorithm|this query"),
    _rule("question_answering", 2, "name the|explain|define|describe|tell me", starts=True),
    _rule("question_answering", 2, "erklär|nenne|sag mir|explique|dis-moi|explica|dime", starts=True),
)
_TOLD_RULES = tuple(rule for rule in _RULES if rule.weight >= _TOLD)
_ASKS = re.compile(
    r"(?:what|who|whom|whose|when|where|why|how|which|wer|wen|wem|wann|wo|warum|wieso|wie|was|welche\w?"
    r"|qui|quand|où|pourquoi|comment|combien|quel\w*|que|est-ce|qué|quién|cuándo|dónde|cómo|cuál|cuánt\w+)\b"
)
_QUOTES = ("'", '"', "¿", "¡", "«", "(")

_Found = tuple[int, _Rule, str]


def _found_by(rules: tuple[_Rule, ...]) -> Mapping[str, tuple[_Found, ...]]:
    """Put rules under the beginnings of the words that they look for, each with its place among the heaviest."""
    found: dict[str, list[_Found]] = {}
    pairs = ((rule, cue) for rule in sorted(rules, key=lambda one: -one.weight) for cue in rule.cues)
    for place, (rule, cue) in enumerate(pairs):
        found.setdefault(cue.split()[0][:_KEY], []).append((place, rule, cue))
    return {key: tuple(those) for key, those in found.items()}


_BY_WORD = _found_by(_RULES)
_TOLD_BY_WORD = _found_by(_TOLD_RULES)


def task_of(body: bytes, named: str | None = None, configured: Collection[str] = ()) -> str:
    """Say what kind of task a call is.

    Args:
        named: By the header `X-Task-Type`; it counts before the body's `metadata.task_type`.
        configured: The tasks that the catalog names.

    Raises:
        InvalidRequestError: A task that nobody knows was named.
    """
    question = question_of(body)
    if named is not None:
        return _checked(named, "X-Task-Type", configured)
    if question.task_type is not None:
        return _checked(question.task_type, "metadata.task_type", configured)
    return guessed(question.asked, question.instructions)


def guessed(asked: str, system: str = "") -> str:
    """Guess from what the user asks, and from the system message where that says little."""
    text = asked if len(asked) <= _HEAD + _TAIL else f"{asked[:_HEAD]}\n{asked[-_TAIL:]}"
    text = text.lower()
    weight, task = _heaviest(_BY_WORD, text)
    if weight < _CLEAR and system:
        told, its_task = _heaviest(_TOLD_BY_WORD, system[:_SYSTEM].lower())
        if told:
            return its_task
    if not weight and ("?" in text or _ASKS.match(text)):
        return "question_answering"
    return task


def _heaviest(by_word: Mapping[str, tuple[_Found, ...]], text: str) -> tuple[int, str]:
    """Give the weight and the task of the heaviest rule that holds; what the first words say weighs one more."""
    bare = text.replace("```", " ``` ")
    for quote in _QUOTES:
        if quote in bare:
            bare = bare.replace(quote, " ")
    heaviest, task = 0, ANY_TASK
    keys = by_word.keys() & {word[:_KEY] for word in bare.split()}
    for _, rule, cue in sorted([found for key in keys for found in by_word[key]]):
        if rule.weight < heaviest:
            break
        at = _place(rule, cue, text)
        if at is not None and (weight := rule.weight + (at < _FIRST_WORDS)) > heaviest:
            heaviest, task = weight, rule.task
    return heaviest, task


def _place(rule: _Rule, cue: str, text: str) -> int | None:
    """Give the first place where a rule holds."""
    at = text.find(cue)
    while at >= 0:
        if _holds(rule, cue, text, at):
            return at
        at = text.find(cue, at + 1)
    return None


def _holds(rule: _Rule, cue: str, text: str, at: int) -> bool:
    if at and text[at - 1].isalnum():
        return False
    if rule.after is not None and not rule.after.match(text, at + len(cue)):
        return False
    return rule.before is None or rule.before.search(text, max(0, at - _BEFORE), at) is not None


def _checked(name: object, param: str, configured: Collection[str]) -> str:
    if isinstance(name, str) and (name in TASKS or name in configured):
        return name
    known = ", ".join(dict.fromkeys((*TASKS, *sorted(configured))))
    given = f"no task is called `{name[:100]}`" if isinstance(name, str) else "a task is a text"
    raise InvalidRequestError(f"`{param}`: {given}; name one of {known}, or none.", param=param)
