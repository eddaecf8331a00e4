"""What OpenAPI's document says of services and their parts: tags, paths and components, to be joined with the rest."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from llmgateway.documents_api.asked import Body
from llmgateway.documents_api.entities import fields
from llmgateway.documents_api.entities.trials import FlavorTrial, PromptToCheck
from llmgateway.documents_api.shelves.describing import (
    FLAG,
    JSON,
    MOMENT,
    NUMBER,
    OBJECT,
    TEXT,
    WHOLE,
    Operation,
    bodies,
    failures,
    operation,
    or_null,
    pages_of,
    ref,
    shape,
)
from llmgateway.documents_api.shelves.meanings import MEANINGS

_TAG = "Services"
_FLAVOR: JSON = {"name": "deep", "model": "auto", "processing_mode": "iterative", "reduce_summary": True}
_TIMES: Mapping[str, JSON] = {"created_at": MOMENT, "updated_at": MOMENT}
_NAMED: Mapping[str, JSON] = {"id": TEXT, "name": TEXT, "description": or_null(TEXT), "organization_id": or_null(TEXT)}
_LISTED = ("Service", "Flavor", "Prompt", "ServiceType", "PromptType", "FlavorPreset", "ServiceTemplate")


class EmptyBody(Body):
    """Nothing is sent."""


class _Kind(Struct, frozen=True, kw_only=True):
    """Rows that are listed, read, made, changed and removed.

    Args:
        identity: What its id is called in paths.
        new, change: What checks the body, and an example.
    """

    path: str
    name: str
    words: str
    several: str
    new: tuple[type[Body], JSON]
    change: tuple[type[Body], JSON]
    identity: str = "id"
    query: Mapping[str, str] = {}


_KINDS = (
    _Kind(
        path="/api/v1/services",
        name="Service",
        words="service",
        several="services",
        new=(fields.NewService, {"name": "Board minutes", "service_type": "summary", "flavors": [_FLAVOR]}),
        change=(fields.ServiceChange, {"description": "For the board only."}),
        identity="service_id",
        query={
            "service_type": "Only of this type.",
            "is_active": "`true` or `false`.",
            "organization_id": "Whose, for those who may act for any.",
        },
    ),
    _Kind(
        path="/api/v1/prompts",
        name="Prompt",
        words="prompt",
        several="prompts",
        new=(fields.NewPrompt, {"name": "Brief", "content": "Be brief. {{instructions}}"}),
        change=(fields.PromptChange, {"content": "Be very brief."}),
        query={"name": "Only those of this name."},
    ),
    _Kind(
        path="/api/v1/service-types",
        name="ServiceType",
        words="type of services",
        several="types of services",
        new=(fields.NewServiceType, {"code": "glossary", "name": "Glossary"}),
        change=(fields.ServiceTypeChange, {"default_processing_mode": "map_reduce"}),
    ),
    _Kind(
        path="/api/v1/flavor-presets",
        name="FlavorPreset",
        words="preset",
        several="presets",
        new=(fields.NewPreset, {"name": "careful", "settings": {"temperature": 0, "max_new_turns": 5}}),
        change=(fields.PresetChange, {"settings": {"temperature": 0.1}}),
        query={"name": "Only those of this name."},
    ),
    _Kind(
        path="/api/v1/service-templates",
        name="ServiceTemplate",
        words="service template",
        several="service templates",
        new=(
            fields.NewServiceTemplate,
            {"name": "minutes", "service": {"name": "Minutes"}, "flavors": [{"name": "usual"}]},
        ),
        change=(fields.ServiceTemplateChange, {"description": "Minutes of a meeting."}),
        query={"name": "Only those of this name."},
    ),
)


def described() -> dict[str, Any]:
    """Give `tags`, `paths` and `components`."""
    paths: dict[str, JSON] = {}
    for kind in _KINDS:
        paths |= _kept(kind)
    for path, method, given in _others():
        paths.setdefault(path, {})[method] = operation(path, given)
    sent = [body for kind in _KINDS for body, _ in (kind.new, kind.change)]
    more = [given.body[0] for _, _, given in _others() if given.body is not None]
    schemas = {**bodies([*sent, *more], MEANINGS), **_rows(), **_findings()}
    schemas |= {f"{name}List": pages_of(name) for name in _LISTED}
    tag = {"name": _TAG, "description": "Tasks on documents, and what they are made of."}
    return {"tags": [tag], "paths": paths, "components": {"schemas": schemas, "responses": failures()}}


def _kept(kind: _Kind) -> dict[str, JSON]:
    path, one, name, words = kind.path, f"{kind.path}/{{{kind.identity}}}", kind.name, kind.words

    def of(verb: str, summary: str, answer: str, **more: Any) -> Operation:
        return Operation(id=verb, tag=_TAG, summary=summary, answer=answer, **more)

    every = {"description": "Everybody's, and your organization's own.", "query": kind.query, "is_list": True}
    changed = {"description": "What is not sent stays; `null` clears what may be empty.", "body": kind.change}
    given = {
        (path, "get"): of(f"list{name}s", f"List {kind.several}", f"{name}List", **every),
        (path, "post"): of(f"create{name}", f"Make a {words}", name, status=201, body=kind.new),
        (one, "get"): of(f"read{name}", f"Read a {words}", name),
        (one, "patch"): of(f"change{name}", f"Change a {words}", name, **changed),
        (one, "delete"): of(f"remove{name}", f"Remove a {words}", "Deleted"),
    }
    paths: dict[str, JSON] = {path: {}, one: {}}
    for (where, method), its in given.items():
        paths[where][method] = operation(where, its)
    return paths


def _others() -> list[tuple[str, str, Operation]]:
    flavors, one = "/api/v1/services/{service_id}/flavors", "/api/v1/flavors/{flavor_id}"
    new, change = (fields.NewFlavor, _FLAVOR), (fields.FlavorChange, {"temperature": 0.5, "max_cost_usd": None})
    trial, copy = (FlavorTrial, {"prompt": "Say hello."}), (fields.PromptCopy, {"name": "Brief, but kind"})
    checked = (PromptToCheck, {"prompt": "{} {}", "processing_mode": "iterative"})
    use = (fields.PresetUse, {"service_id": "summarize", "name": "careful"})
    service = (fields.TemplateUse, {"name": "Minutes of the board"})

    def of(name: str, summary: str, answer: str, **more: Any) -> Operation:
        return Operation(id=name, tag=_TAG, summary=summary, answer=answer, **more)

    return [
        (flavors, "get", of("listFlavors", "List a service's flavors", "FlavorList", is_list=True)),
        (flavors, "post", of("createFlavor", "Make a flavor", "Flavor", status=201, body=new)),
        (one, "get", of("readFlavor", "Read a flavor", "Flavor")),
        (one, "patch", of("changeFlavor", "Change a flavor", "Flavor", body=change)),
        (
            one,
            "delete",
            of("removeFlavor", "Remove a flavor", "Deleted", description="Neither the last nor the default."),
        ),
        (f"{one}/set-default", "post", of("setDefaultFlavor", "Make it the default", "Flavor", body=(EmptyBody, {}))),
        (f"{one}/failover-chain", "get", of("readFailoverChain", "Who goes on when it fails", "FailoverChain")),
        (f"{one}/test", "post", of("testFlavor", "Ask its model once", "FlavorAnswer", body=trial, asks=True)),
        (
            "/api/v1/flavors/validate-prompt",
            "post",
            of("validatePrompt", "Check a prompt", "PromptVerdict", body=checked),
        ),
        ("/api/v1/prompts/{id}/duplicate", "post", of("duplicatePrompt", "Copy it", "Prompt", status=201, body=copy)),
        ("/api/v1/prompt-types", "get", of("listPromptTypes", "List types of prompts", "PromptTypeList", is_list=True)),
        (
            "/api/v1/flavor-presets/{id}/apply",
            "post",
            of("applyFlavorPreset", "Make a flavor of it", "Flavor", status=201, body=use),
        ),
        (
            "/api/v1/service-templates/from-template/{id}",
            "post",
            of("createServiceFromTemplate", "Make a service of it", "Service", status=201, body=service),
        ),
    ]


def _rows() -> dict[str, JSON]:
    """Describe what is kept."""
    return {
        "Service": shape(
            {
                **_NAMED,
                "route": TEXT,
                "model": TEXT,
                "service_type": TEXT,
                "is_active": FLAG,
                "default_template_id": or_null(TEXT),
                "default_flavor_id": or_null(TEXT),
                "metadata": OBJECT,
                "flavors": {"type": "array", "items": ref("Flavor")},
                **_TIMES,
            },
            {**MEANINGS, "model": "Its name as a model of /v1/chat/completions."},
        ),
        "Flavor": _flavor(),
        "Prompt": shape(
            {**_NAMED, "content": TEXT, "category": TEXT, "type": TEXT, "service_type": or_null(TEXT), **_TIMES},
            MEANINGS,
        ),
        "ServiceType": shape(
            {
                "id": TEXT,
                "code": TEXT,
                "name": TEXT,
                "description": or_null(TEXT),
                "built_in": FLAG,
                "supports_reduce": FLAG,
                "supports_chunking": FLAG,
                "default_processing_mode": TEXT,
                **_TIMES,
            },
            MEANINGS,
        ),
        "PromptType": shape(
            {"code": TEXT, "name": TEXT, "description": TEXT, "placeholders": {"type": "array", "items": TEXT}},
            MEANINGS,
        ),
        "FlavorPreset": shape({**_NAMED, "built_in": FLAG, "settings": OBJECT, **_TIMES}, MEANINGS),
        "ServiceTemplate": shape(
            {**_NAMED, "built_in": FLAG, "service": OBJECT, "flavors": {"type": "array", "items": OBJECT}, **_TIMES},
            MEANINGS,
        ),
    }


def _findings() -> dict[str, JSON]:
    """Describe what is found out of it."""
    counts = dict.fromkeys(("prompt_tokens", "completion_tokens"), or_null(WHOLE))
    return {
        "FailoverChain": shape(
            {
                "flavor_id": TEXT,
                "flavor_name": TEXT,
                "max_failover_depth": WHOLE,
                "failover_on": ref("FailoverOnBody"),
                "chain": {"type": "array", "items": ref("FailoverChainStep")},
            },
            MEANINGS,
        ),
        "FailoverChainStep": shape(
            {
                **dict.fromkeys(("flavor_id", "flavor_name", "service_id", "service_name", "model"), TEXT),
                "depth": WHOLE,
                "is_active": FLAG,
                "within_depth": FLAG,
            },
            MEANINGS,
        ),
        "PromptVerdict": shape(
            {
                "valid": FLAG,
                **dict.fromkeys(("error_code", "message"), or_null(TEXT)),
                **dict.fromkeys(("required", "actual"), or_null(WHOLE)),
                "processing_mode": TEXT,
                "placeholders": {"type": "array", "items": TEXT},
            },
            MEANINGS,
        ),
        "FlavorAnswer": shape(
            {
                **dict.fromkeys(
                    ("service_id", "flavor_id", "flavor_name", "request_id", "content", "finish_reason"), TEXT
                ),
                **dict.fromkeys(("refusal", "provider", "model"), or_null(TEXT)),
                **counts,
                "cost_usd": or_null(NUMBER),
                "started_at": MOMENT,
                "duration_ms": NUMBER,
                "attempts": WHOLE,
            },
            MEANINGS,
        ),
    }


def _flavor() -> JSON:
    """Describe a flavor as it is shown: as it is sent, with its identity."""
    sent = bodies([fields.NewFlavor], MEANINGS)["NewFlavor"]["properties"]
    settings = {name: {key: part for key, part in given.items() if key != "default"} for name, given in sent.items()}
    return shape({"id": TEXT, "service_id": TEXT, **settings, **_TIMES}, MEANINGS)
