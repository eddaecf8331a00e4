"""Makes the messages of a question: a flavor's prompts, what was ordered with the job, and a part of the document."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from llmgateway.documents import prompts
from llmgateway.documents.question import PassType, Question
from llmgateway.documents.recipe import Batch, Extras, Recipe
from llmgateway.flavor import Flavor

Messages = tuple[Mapping[str, Any], ...]
Asked = Literal["single_pass", "iterative", "map_reduce", "reduce"]

_MOST_AROUND_CHARS = 64


class Wording(Struct, frozen=True, kw_only=True):
    """The prompts of a job for one use, filled but for the document and what was written before.

    Args:
        system: Empty where nothing is to be said.
    """

    system: str
    user: str
    values: Mapping[str, str]

    def messages(self, document: str, previous: str = "") -> Messages:
        """Put a part of the document in."""
        user = self.user
        if previous and "previous" not in prompts.names_in(user):
            user = prompts.PREVIOUS + _named(user)
        content = prompts.fill(user, {**self.values, "document": document, "previous": previous})
        asked = {"role": "user", "content": content}
        return ({"role": "system", "content": self.system}, asked) if self.system else (asked,)


def wording(recipe: Recipe, extras: Extras, use: Asked) -> Wording:
    """Put together what is said around every part."""
    settings = recipe.settings
    own = settings.reduce_prompt if use == "reduce" else settings.user_prompt
    system = _standing_system(settings) if settings.system_prompt is None else settings.system_prompt
    user = prompts.DOCUMENT if own is None else own
    values = {
        "instructions": extras.instructions,
        "language": extras.language or prompts.DOCUMENTS_LANGUAGE,
        "fields": "",
        "tags": "",
    }
    said = [prompts.fill(system, values), *_added(extras, prompts.names_in(system) | prompts.names_in(user))]
    if own is None:
        said.append(prompts.GUIDES[use])
    if _is_carried(settings, use) and (own is None or "previous" not in prompts.names_in(own)):
        said.append(prompts.CARRIED)
    said += _form(settings)
    return Wording(system="\n\n".join(text for text in said if text.strip()), user=user, values=values)


def question(
    recipe: Recipe,
    messages: Messages,
    *,
    step: str,
    type: PassType,  # noqa: A002  the field's name
    batch: int | None = None,
    last: bool = False,
) -> Question:
    """Ask for an answer in the flavor's form."""
    return Question(
        step=step,
        type=type,
        messages=messages,
        max_tokens=recipe.max_generation,
        batch=batch,
        last=last,
        schema=schema_of(recipe.settings),
    )


def step_of(batch: Batch) -> str:
    """Name the question for a batch: by its place in the document, whoever cut it."""
    return f"batch:{batch.start}-{batch.end}"


def shown(text: str, batch: Batch) -> str:
    """Give a batch as the model sees it: one that begins in the middle of a turn says who goes on speaking.

    Much white space around it says nothing, and is not among its tokens.
    """
    content = text[batch.start : batch.end]
    visible = content.strip()
    content = content if len(content) - len(visible) <= _MOST_AROUND_CHARS else visible
    return f"{batch.speaker} (continued): {content}" if batch.speaker else content


def schema_of(settings: Flavor) -> Mapping[str, Any] | None:
    """Say what a JSON answer must be; an empty schema is any object, `None` no JSON."""
    return (settings.output_schema or {}) if settings.output_type == "json" else None


def _named(template: str) -> str:
    # A bare placeholder means something else as soon as there are two of them, or a name.
    names = prompts.names_in(template)
    return prompts.fill(template, {"document": "{{document}}"}) if names else template


def _is_carried(settings: Flavor, use: Asked) -> bool:
    return use == "iterative" and settings.summary_turns > 0


def _standing_system(settings: Flavor) -> str:
    task = prompts.SUMMARY if settings.user_prompt is None else ""
    return "\n\n".join(text for text in (prompts.RULES, task, prompts.FORMS[settings.output_type]) if text)


def _added(extras: Extras, named: frozenset[str]) -> list[str]:
    """Give what was ordered and has no place of its own in the prompts."""
    added = [] if "instructions" in named else [extras.instructions]
    if extras.language and "language" not in named:
        added.append(prompts.LANGUAGE.format(extras.language))
    return added


def _form(settings: Flavor) -> list[str]:
    schema = schema_of(settings)
    if schema is None:
        return []
    if not schema:
        return [prompts.JSON.format("object")]
    written = msgspec.json.encode(schema).decode()
    return [prompts.JSON.format("value"), f"{prompts.SCHEMA}\n{written}"]
