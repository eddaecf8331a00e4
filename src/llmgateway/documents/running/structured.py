"""Answers that are to be JSON: read strictly, repaired once by the model, put together from parts."""

import json
from collections.abc import Generator, Mapping, Sequence
from hashlib import sha256
from itertools import chain
from typing import Any

import msgspec

from llmgateway.documents import prompts
from llmgateway.documents.planning import room
from llmgateway.documents.question import AnswerError, Question
from llmgateway.documents.recipe import Count, Recipe
from llmgateway.documents.running import schema_form
from llmgateway.documents.running.questions import question, schema_of
from llmgateway.documents.running.schema import faults

_FENCE = "```"
_REPAIR = """\
You correct JSON that a program could not use. What was written stands between <json> and </json>, what is wrong with \
it between <faults> and </faults>. Change only what the faults need, keep all that is said, and invent nothing: what \
is missing and not known is null or empty, as the schema allows."""
_WRITTEN = "<json>\n\n{{document}}\n\n</json>\n\n<faults>\n\n{{instructions}}\n\n</faults>"
_MESSAGE_TOKENS = 32
# Of a part, before the parts are put together: only the whole has to have everything that the schema asks for.
_ANY: Mapping[str, Any] = {"type": ["object", "array"]}

Structuring = Generator[Sequence[Question], Mapping[str, str], str]
_Reading = Generator[Sequence[Question], Mapping[str, str], list["_Read"]]


class _Read(msgspec.Struct, frozen=True):
    """A text, read: its value, or what is wrong with it."""

    text: str
    value: Any = None
    faults: tuple[str, ...] = ()


def structured(parts: Sequence[str], recipe: Recipe, count: Count) -> Structuring:
    """Make one JSON text of the answers for all parts.

    Raises:
        AnswerError: `invalid_output`: it is none, or none under the schema, even after its repair.
    """
    schema = schema_of(recipe.settings) or {"type": "object"}
    if wrong := schema_form.fault(schema):
        raise AnswerError(
            "model_error", "invalid_output", f"The flavor's `output_schema` is no schema to check by: {wrong}"
        )
    if len(parts) > 1:
        values = [part.value for part in (yield from _repaired(parts, _ANY, recipe, count, "part"))]
        parts = [json.dumps(merged(values), ensure_ascii=False, indent=2)]
    result = yield from _repaired(parts, schema, recipe, count, "whole")
    return result[0].text


def merged(values: Sequence[Any]) -> Any:
    """Put values together: lists joined, objects merged, otherwise the first that is not null."""
    there = [value for value in values if value is not None]
    if any(isinstance(value, list) for value in there):
        return list(chain.from_iterable(value if isinstance(value, list) else [value] for value in there))
    objects = [value for value in there if isinstance(value, dict)]
    if objects:
        names = dict.fromkeys(chain.from_iterable(objects))
        return {name: merged([each[name] for each in objects if name in each]) for name in names}
    return there[0] if there else None


def read(text: str, schema: Mapping[str, Any]) -> Any:
    """Read JSON strictly; a code fence around the whole of it is no part of it.

    Raises:
        ValueError: It is none, or not what the schema says; the arguments are the faults.
    """
    try:
        value = msgspec.json.decode(unfenced(text).encode())
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise ValueError(f"It is no JSON: {error}") from None
    if found := faults(value, schema):
        raise ValueError(*found)
    return value


def unfenced(text: str) -> str:
    """Take off a code fence that is around the whole text."""
    stripped = text.strip()
    first, _, below = stripped.partition("\n")
    language = first.removeprefix(_FENCE).strip()
    if first.startswith(_FENCE) and below.endswith(_FENCE) and (not language or language.isalnum()):
        return below.removesuffix(_FENCE).strip()
    return stripped


def _repaired(texts: Sequence[str], schema: Mapping[str, Any], recipe: Recipe, count: Count, what: str) -> _Reading:
    """Read texts, and ask once about each that is not what it should be."""
    results = [_read(text, schema) for text in texts]
    broken = [index for index, result in enumerate(results) if result.faults]
    if not broken:
        return results
    asked = {index: _repair(results[index], recipe, f"{what}.{index}") for index in broken}
    _see_that_they_fit(list(asked.values()), recipe, count)
    answers = yield tuple(asked.values())
    for index, each in asked.items():
        results[index] = _read(answers[each.step], schema)
        if results[index].faults:
            raise _invalid("It was repaired once, and is still not.")
    return results


def _read(text: str, schema: Mapping[str, Any]) -> _Read:
    try:
        return _Read(unfenced(text), value=read(text, schema))
    except ValueError as error:
        return _Read(unfenced(text), faults=tuple(map(str, error.args)))


def _repair(broken: _Read, recipe: Recipe, name: str) -> Question:
    settings = recipe.settings
    schema = schema_of(settings)
    wanted = f"\n\n{prompts.SCHEMA}\n{msgspec.json.encode(schema).decode()}" if schema else ""
    system = f"{_REPAIR}\n\n{prompts.JSON.format('value' if schema else 'object')}{wanted}"
    content = prompts.fill(_WRITTEN, {"document": broken.text, "instructions": "\n".join(broken.faults)})
    messages = ({"role": "system", "content": system}, {"role": "user", "content": content})
    digest = sha256(content.encode(errors="replace")).hexdigest()[:12]
    return question(recipe, messages, step=f"repair:{name}:{digest}", type="continuation")


def _see_that_they_fit(asked: Sequence[Question], recipe: Recipe, count: Count) -> None:
    sizes = count([message["content"] for each in asked for message in each.messages])
    pairs = zip(sizes[::2], sizes[1::2], strict=True)
    if any(room(recipe, system + user + _MESSAGE_TOKENS) < 0 for system, user in pairs):
        raise _invalid("It is too long for the model to repair.")


def _invalid(why: str) -> AnswerError:
    return AnswerError("model_error", "invalid_output", f"The answer is not the JSON that the flavor promises. {why}")
