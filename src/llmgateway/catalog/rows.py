"""What administrators added to the catalog, beside its file: providers and deployments, as rows of the database.

Of a provider, its key and every option that may hold a secret are kept apart, to be encrypted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec
from pydantic import TypeAdapter, ValidationError

from llmgateway.catalog.check import worded, written
from llmgateway.catalog.schema import AccountName, DeploymentEntry, Entry, ModelName, ProviderEntry

# Where a row's clear part says what is encrypted beside it.
SEALED = "sealed"
_SECRET_OPTION = re.compile(r"key|secret|token|password|credential|auth|header|cookie", re.IGNORECASE)
Kind = TypeVar("Kind", bound=Entry)
_NAMES: Mapping[str, TypeAdapter[str]] = {"providers": TypeAdapter(AccountName), "deployments": TypeAdapter(ModelName)}


@dataclass(frozen=True, slots=True)
class DeploymentFields:
    """One more deployment.

    Args:
        id: Of its row.
        model: The name that clients ask for.
        fields: As in `deployments:` of the file.
    """

    id: str
    model: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """All of them.

    Args:
        providers: By name, the fields as in `providers:` of the file, `api_key` in clear.
        deployments: In the order in which they are asked, after those of the file.
    """

    providers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    deployments: Sequence[DeploymentFields] = ()


NO_ROWS = Rows()


class RowFault(Exception):  # noqa: N818  it is told as a warning, and stops nothing
    """A row that cannot be served now; the message says why, and never a value of it."""


def provider_entry(name: str, fields: Mapping[str, Any]) -> ProviderEntry:
    """Check a provider's row as the file would be. Raises: RowFault."""
    return _checked("providers", name, ProviderEntry, fields)


def deployment_entry(row: DeploymentFields) -> DeploymentEntry:
    """Check a deployment's row as the file would be. Raises: RowFault."""
    return _checked("deployments", row.model, DeploymentEntry, row.fields)


def _checked(kind: str, name: str, entry: type[Kind], fields: Mapping[str, Any]) -> Kind:
    try:
        _NAMES[kind].validate_python(name)
        return entry.model_validate(fields)
    except ValidationError as error:
        raise RowFault("; ".join(_faults(error, entry))) from None


def _faults(error: ValidationError, entry: type[Entry]) -> Iterator[str]:
    for fault in error.errors(include_input=False):
        path, message = worded(fault, entry)
        yield f"{written(path) or 'its name'}: {message}"


def taken_apart(fields: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """Part a provider's fields into what may be read and what must be encrypted; `None` when that is nothing."""
    options: Mapping[str, Any] = fields.get("options") or {}
    hidden = {name: value for name, value in options.items() if _is_secret(name, value)}
    clear = {name: value for name, value in fields.items() if name not in {"api_key", "options", SEALED}}
    if shown := {name: value for name, value in options.items() if name not in hidden}:
        clear["options"] = shown
    secret = {name: value for name, value in (("api_key", fields.get("api_key")), ("options", hidden)) if value}
    if not secret:
        return clear, None
    names = ["api_key"] if "api_key" in secret else []
    return {**clear, SEALED: names + [f"options.{name}" for name in hidden]}, msgspec.json.encode(secret).decode()


def put_together(clear: Mapping[str, Any], secret: str | None) -> dict[str, Any]:
    """Give a provider's fields again. Raises: ValueError, when the secret part is none."""
    fields = {name: value for name, value in clear.items() if name != SEALED}
    if secret is None:
        return fields
    parts = msgspec.json.decode(secret, type=dict[str, Any])
    if parts.get("options"):
        fields["options"] = {**fields.get("options", {}), **parts["options"]}
    if parts.get("api_key"):
        fields["api_key"] = parts["api_key"]
    return fields


def _is_secret(name: str, value: object) -> bool:
    # What is nested may hold anything, such as headers.
    return _SECRET_OPTION.search(name) is not None or isinstance(value, dict | list)
