"""The corpus: secrets put together from their parts, and what only looks like one."""

from dataclasses import dataclass
from pathlib import Path

import yaml

_FOLDER = Path(__file__).parent / "corpus"


@dataclass(frozen=True)
class Example:
    """A secret and the text around it."""

    kind: str
    text: str
    secret: str


def _secrets() -> list[Example]:
    rows = yaml.safe_load((_FOLDER / "secrets.yaml").read_text("utf-8"))
    joined = [(row["kind"], row["text"], "".join(row["secret"])) for row in rows]
    return [Example(kind, text.format(secret), secret) for kind, text, secret in joined]


def _harmless() -> list[str]:
    return [str(line) for line in yaml.safe_load((_FOLDER / "harmless.yaml").read_text("utf-8"))]


SECRETS = _secrets()
HARMLESS = _harmless()
GITHUB = next(one.secret for one in SECRETS if one.kind == "github_token")
