"""The tables of the rows that administrators write, and how a row's fields are kept in their columns."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, structs
from sqlalchemy import JSON, BigInteger, Column, String, Table

from llmgateway.storage.admin.chain import at_us, moment_of
from llmgateway.storage.admin.rows import AuditRow, ChangeKind, DeploymentRow, KeyRow, OrganizationRow, ProviderRow
from llmgateway.storage.documents.rows import (
    FlavorRow,
    PresetRow,
    PromptRow,
    ServiceRow,
    ServiceTemplateRow,
    ServiceTypeRow,
)
from llmgateway.storage.migrations.document_tables import (
    flavors,
    presets,
    prompts,
    service_templates,
    service_types,
    services,
)
from llmgateway.storage.migrations.tables import audit, deployments, keys, organizations, providers


class Kind(NamedTuple):
    """One kind of row.

    Args:
        identity: The column that names a row for ever.
        unique: Other columns that no two rows have the same value in.
    """

    table: Table
    row: type[Struct]
    identity: Column[Any]
    unique: tuple[Column[Any], ...] = ()


KINDS: Mapping[ChangeKind, Kind] = {
    "key": Kind(keys, KeyRow, keys.c.id),
    "organization": Kind(organizations, OrganizationRow, organizations.c.id, (organizations.c.name,)),
    "provider": Kind(providers, ProviderRow, providers.c.name),
    "deployment": Kind(deployments, DeploymentRow, deployments.c.id),
    "service": Kind(services, ServiceRow, services.c.id, (services.c.unique_name, services.c.unique_route)),
    "flavor": Kind(flavors, FlavorRow, flavors.c.id, (flavors.c.unique_name,)),
    "prompt": Kind(prompts, PromptRow, prompts.c.id, (prompts.c.unique_name,)),
    "service_type": Kind(service_types, ServiceTypeRow, service_types.c.id, (service_types.c.code,)),
    "preset": Kind(presets, PresetRow, presets.c.id, (presets.c.unique_name,)),
    "service_template": Kind(
        service_templates, ServiceTemplateRow, service_templates.c.id, (service_templates.c.unique_name,)
    ),
}


def field_of(column: Column[Any]) -> str:
    """Name the field that a column keeps: of a time, the column's name has the unit as well."""
    return column.name.removesuffix("_us")


def values_of(table: Table, row: Struct) -> dict[str, Any]:
    """Make the columns' values.

    Raises:
        ValueError: A text is too long or holds what no database keeps.
    """
    return {column.name: _value_of(column, getattr(row, field_of(column))) for column in table.c}


def _value_of(column: Column[Any], value: Any) -> Any:
    match column.type, value:
        case _, None:
            return None
        case JSON(), _:
            return msgspec.to_builtins(dict(value) if isinstance(value, Mapping) else value, str_keys=True)
        case BigInteger(), datetime():
            return at_us(value)
        case String(), str():
            return _checked(column, value)
    return value


def _checked(column: Column[Any], text: str) -> str:
    name, most = field_of(column), getattr(column.type, "length", None)
    if most is not None and len(text) > most:
        raise ValueError(f"{name}: {len(text)} characters, {most} at most")
    try:
        if "\0" not in text:
            text.encode()
            return text
    except UnicodeEncodeError:
        pass
    raise ValueError(f"{name}: holds characters that cannot be kept")


def row_from(table: Table, row: type[Struct], values: Sequence[Any]) -> Any:
    """Read a row back from the values of its table's columns."""
    fields = {field_of(column): _read(column, value) for column, value in zip(table.c, values, strict=True)}
    return msgspec.convert(fields, row)


def _read(column: Column[Any], value: Any) -> Any:
    return moment_of(value) if value is not None and column.name.endswith("_us") else value


def audit_row(values: Sequence[Any]) -> AuditRow:
    """Read a row of the audit log back."""
    row: AuditRow = row_from(audit, AuditRow, values)
    return row


def identity_of(kind: Kind, row: Struct) -> str:
    """Name a row for ever."""
    identity: str = structs.asdict(row)[kind.identity.name]
    return identity
