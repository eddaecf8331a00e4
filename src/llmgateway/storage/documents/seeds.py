"""What a new database offers at once: services with their flavors and prompts, types, presets, templates.

Ids are fixed, so that a row is known again whatever became of its name: nothing that an administrator changed or
removed comes back.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct, structs

from llmgateway.flavor import Flavor
from llmgateway.storage.admin.rows import EntityKind
from llmgateway.storage.documents.rows import (
    FlavorRow,
    PresetRow,
    PromptRow,
    ServiceRow,
    ServiceTemplateRow,
    ServiceTypeRow,
)
from llmgateway.storage.documents.seed_prompts import PROMPTS

# The best model that is configured; without any provider the built-in demo answers.
_MODEL = "auto"
_NAMESPACE = uuid.UUID("6d4f2b0e-7c55-5d3c-9a55-3c1e0f7a9b10")

_TYPES: Mapping[str, tuple[str, str]] = {
    "summary": ("Summary", "Shortens a document to what matters in it."),
    "translation": ("Translation", "Says a document in another language."),
    "categorization": ("Categorization", "Says what a document is about."),
    "extraction": ("Extraction", "Finds named facts in a document."),
    "diarization_correction": ("Diarization correction", "Mends who speaks where in a transcript."),
    "speaker_correction": ("Speaker correction", "Mends the names of speakers in a transcript."),
    "chat": ("Chat", "Answers about a document."),
    "generic": ("Generic", "Anything else that is done with a document."),
}
# Their answers are as long as the document, or must stay in its order: nothing is to be consolidated.
_NEVER_REDUCED = frozenset({"translation", "diarization_correction", "speaker_correction"})


class _Service(Struct, frozen=True):
    name: str
    route: str
    type: str
    description: str
    iterative: Mapping[str, Any] = {}
    output: Mapping[str, Any] = {}


_SERVICES = (
    _Service("Summarize", "summarize", "summary", "A summary of a text of any length.", {"reduce_summary": True}),
    _Service(
        "Meeting minutes",
        "meeting-minutes",
        "summary",
        "Minutes of a meeting out of its transcript: topics, decisions, actions.",
    ),
    _Service(
        "Executive summary",
        "executive-summary",
        "summary",
        "One page for whoever decides: what it is about, what follows from it.",
        {"reduce_summary": True},
    ),
    _Service(
        "Structured report",
        "structured-report",
        "summary",
        "A report with headings, tables and lists.",
        {"reduce_summary": True},
    ),
    _Service(
        "Translate",
        "translate",
        "translation",
        "The same text in another language; English unless the instructions name one.",
        {"summary_turns": 2},
    ),
    _Service(
        "Categorize",
        "categorize",
        "categorization",
        "Topics of a text with how sure that is, as JSON.",
        {"reduce_summary": True, "summary_turns": 0},
        {"output_type": "json"},
    ),
    _Service(
        "Extract fields",
        "extract-fields",
        "extraction",
        "Names, dates, amounts, decisions and the like, as JSON; the instructions may name other fields.",
        {"reduce_summary": True, "summary_turns": 0},
        {"output_type": "json"},
    ),
    _Service(
        "Speaker correction",
        "speaker-correction",
        "speaker_correction",
        "A transcript with its speakers' names put right by what is said.",
        {"max_new_turns": 30, "summary_turns": 5},
        {"output_type": "text"},
    ),
    _Service(
        "Improve text",
        "improve-text",
        "generic",
        "The same text in better words: spelling, grammar, clarity.",
        {"summary_turns": 2},
    ),
)
_SINGLE = {"processing_mode": "single_pass", "temperature": 0.2, "top_p": 0.8, "auto_fallback_to_iterative": True}
_ITERATIVE = {
    "processing_mode": "iterative",
    "temperature": 0.2,
    "top_p": 0.7,
    "create_new_turn_after": 150,
    "summary_turns": 3,
    "max_new_turns": 12,
}
_PRESETS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "single-pass": ("The whole document in one call; in parts when it does not fit.", _SINGLE),
    "iterative": (
        "In parts, one after another, consolidated at the end.",
        {**_ITERATIVE, "reduce_summary": True, "consolidate_summary": True},
    ),
}


def seeds(at: datetime) -> Mapping[EntityKind, Sequence[Struct]]:
    """Give the rows by their kind, with this moment as the time they were made."""
    times: Mapping[str, Any] = {"created_at": at, "updated_at": at}
    services = list(_services(times))
    return {
        "service_type": [_type(code, times) for code in _TYPES],
        "prompt": list(_prompts(times)),
        "service": services,
        "flavor": [flavor for service in services for flavor in _flavors(service, times)],
        "preset": [
            PresetRow(
                id=_id("preset", name),
                name=name,
                unique_name=f"/{name}",
                description=description,
                settings=settings,
                built_in=True,
                **times,
            )
            for name, (description, settings) in _PRESETS.items()
        ],
        "service_template": [_template(service, times) for service in _SERVICES],
    }


def _id(kind: str, name: str) -> str:
    return str(uuid.uuid5(_NAMESPACE, f"{kind}/{name}"))


def _type(code: str, times: Mapping[str, Any]) -> ServiceTypeRow:
    name, description = _TYPES[code]
    return ServiceTypeRow(
        id=_id("service_type", code),
        code=code,
        name=name,
        description=description,
        built_in=True,
        supports_reduce=code not in _NEVER_REDUCED,
        **times,
    )


def _services(times: Mapping[str, Any]) -> Iterator[ServiceRow]:
    for service in _SERVICES:
        yield ServiceRow(
            id=_id("service", service.route),
            name=service.name,
            route=service.route,
            service_type=service.type,
            unique_name=f"/{service.name}",
            unique_route=f"/{service.route}",
            description=service.description,
            **times,
        )


def _prompts(times: Mapping[str, Any]) -> Iterator[PromptRow]:
    for service in _SERVICES:
        texts = structs.asdict(PROMPTS[service.route])
        for part, content in texts.items():
            if content is not None:
                name = f"{service.route}-{part}"
                yield PromptRow(
                    id=_id("prompt", name),
                    name=name,
                    unique_name=f"/{name}",
                    content=content,
                    category="system" if part == "system" else "user",
                    type="reduce" if part == "reduce" else "standard",
                    service_type=service.type,
                    **times,
                )


def _flavors(row: ServiceRow, times: Mapping[str, Any]) -> Iterator[FlavorRow]:
    service = next(one for one in _SERVICES if one.route == row.route)
    for name, settings in _settings(service).items():
        chosen = {**settings, **{key: _id("prompt", value) for key, value in _prompt_names(service, name).items()}}
        yield FlavorRow(
            id=_id("flavor", f"{service.route}/{name}"),
            service_id=row.id,
            name=name,
            unique_name=f"{row.id}/{name}",
            settings=Flavor(model=_MODEL, **chosen),
            is_default=name == "iterative",
            **times,
        )


def _settings(service: _Service) -> Mapping[str, dict[str, Any]]:
    return {
        "single-pass": {**_SINGLE, **service.output},
        "iterative": {**_ITERATIVE, **service.output, **service.iterative},
    }


def _prompt_names(service: _Service, flavor: str) -> Mapping[str, str]:
    texts = PROMPTS[service.route]
    names = {"system_prompt": "system", "user_prompt": "user" if flavor == "single-pass" else "user_next"}
    if texts.reduce is not None:
        names["reduce_prompt"] = "reduce"
    return {field: f"{service.route}-{part}" for field, part in names.items()}


def _template(service: _Service, times: Mapping[str, Any]) -> ServiceTemplateRow:
    texts = PROMPTS[service.route]
    flavors = tuple(
        {
            "name": name,
            "model": _MODEL,
            "is_default": name == "iterative",
            **settings,
            "system_prompt": texts.system,
            "user_prompt": texts.user if name == "single-pass" else texts.user_next,
            **({"reduce_prompt": texts.reduce} if texts.reduce is not None else {}),
        }
        for name, settings in _settings(service).items()
    )
    return ServiceTemplateRow(
        id=_id("service_template", service.route),
        name=service.route,
        unique_name=f"/{service.route}",
        description=service.description,
        service={"name": service.name, "service_type": service.type, "description": service.description},
        flavors=flavors,
        built_in=True,
        **times,
    )
