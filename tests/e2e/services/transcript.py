"""A meeting of three hours, written down: five speakers, 30,000 words, and twenty decisions that are known.

`python -m tests.e2e.services.transcript > meeting.txt` writes it.
"""

import random
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

SPEAKERS = ("Anna Lindqvist", "Dr. Ben O'Connor", "Chiara Rossi", "Иван Петров", "田中")
WORDS, DECISIONS = 30_000, 20
_LENGTH_S = 3 * 60 * 60

_SUBJECTS = (
    *("the budget", "the launch", "our support team", "the mobile app", "the audit", "that supplier", "the roadmap"),
    *("the data centre", "the training plan", "the survey", "the contract", "the new office", "the test lab"),
)
_VERBS = (
    *("needs more time than we thought", "looks better than last month", "depends on the people in Lyon"),
    *("was discussed at length on Tuesday", "still has two open questions", "costs more than we had planned"),
    *("went well in the first week", "is behind the other projects", "has nobody who looks after it"),
)
_ENDS = (
    *("and I would like to hear what you think", "but the numbers are not in yet", "so let us come back to it"),
    *("which is what the customers told us", "as far as I can see from here", "although the risk is small"),
    *("and that worries me a little", "because the season begins in May", "if nothing else happens"),
)
_FILLERS = ("Well,", "Yes,", "Honestly,", "To be fair,", "As I said,", "Look,", "Right,")
_DEEDS = (
    *(
        "move the launch to the",
        "close the old office by the",
        "hire two engineers before the",
        "renew the contract on the",
    ),
    *(
        "publish the survey by the",
        "test the backups on the",
        "start the pilot in Lyon on the",
        "stop the campaign on the",
    ),
)
_MONTHS = ("January", "March", "April", "June", "September", "November")
_DECISION = re.compile(r"Decision \d+: [^.\n]+\.")


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was said, and what was decided, in the order in which it was said."""

    text: str
    decisions: tuple[str, ...]

    @property
    def words(self) -> int:
        return len(self.text.split())


def transcript(words: int = WORDS, decisions: int = DECISIONS, seed: int = 1) -> Transcript:
    """Write a meeting down; the same seed gives the same one."""
    dice = random.Random(seed)
    planted = tuple(_decision(number, dice) for number in range(1, decisions + 1))
    # Each in a stretch of its own, so that no batch has them all.
    due = [round((number + dice.uniform(0.1, 0.9)) * words / decisions) for number in range(decisions)]
    turns: list[str] = []
    said = 0
    while said < words:
        sentences = list(_sentences(dice))
        if due and said >= due[0]:
            due.pop(0)
            sentences.insert(dice.randrange(len(sentences) + 1), planted[decisions - len(due) - 1])
        turns.append(f"[{_clock(said / words)}] {dice.choice(SPEAKERS)}: {' '.join(sentences)}")
        said += len(turns[-1].split())
    # Those that were due in the last turn, or after it.
    turns += [f"[{_clock(1)}] {SPEAKERS[0]}: {late}" for late in planted[decisions - len(due) :]] if due else []
    return Transcript("\n".join(turns) + "\n", planted)


def decisions_in(text: str) -> list[str]:
    """Find what was decided in a part of a meeting, or in its minutes: each once."""
    return list(dict.fromkeys(_DECISION.findall(text)))


def _decision(number: int, dice: random.Random) -> str:
    return f"Decision {number}: we {dice.choice(_DEEDS)} {dice.randrange(1, 29)}th of {dice.choice(_MONTHS)}."


def _sentences(dice: random.Random) -> Iterator[str]:
    for _ in range(dice.randrange(2, 9)):
        subject, verb, end = dice.choice(_SUBJECTS), dice.choice(_VERBS), dice.choice(_ENDS)
        yield f"{dice.choice(_FILLERS)} {subject} {verb}, {end}."


def _clock(share: float) -> str:
    at_s = int(share * _LENGTH_S)
    return f"{at_s // 3600:02}:{at_s // 60 % 60:02}:{at_s % 60:02}"


if __name__ == "__main__":
    sys.stdout.write(transcript().text)
