from datetime import timedelta

import pytest
from msgspec import Struct

from llmgateway.caller import Budget
from llmgateway.catalog.model import Limits
from llmgateway.storage.admin.records import KINDS, field_of, identity_of, row_from, values_of
from llmgateway.storage.admin.rows import ChangeKind
from tests.storage.admin.entities import ENTITIES
from tests.storage.admin.given import NOW, deployment_row, key_row, organization_row, provider_row

ROWS: dict[ChangeKind, list[Struct]] = {
    "key": [
        key_row(),
        key_row(
            organization_id="acme",
            models=("openai/*", "chat"),
            tier="gold",
            strategy="cheapest",
            limits=Limits(requests_per_minute=10, cooldown_seconds=0.5),
            budget=Budget(12.5, "week", 10.0),
            expires_at=NOW + timedelta(days=1),
            disabled=True,
            last_used_at=NOW,
            metadata={"team": "a"},
            previous_hash="f" * 64,
            previous_until=NOW,
        ),
        key_row(models=()),
    ],
    "organization": [organization_row(), organization_row(limits=Limits(concurrent=3), budget=Budget(1.0))],
    "provider": [provider_row(sealed_key="x" * 2000), provider_row(fields={"a": {"b": [1, None, 2.5]}})],
    "deployment": [deployment_row()],
    **dict(ENTITIES.items()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_a_row_has_its_column(kind: ChangeKind) -> None:
    its = KINDS[kind]

    assert set(map(field_of, its.table.c)) == set(its.row.__struct_fields__)
    assert len(its.table.c) == len(its.row.__struct_fields__)


@pytest.mark.parametrize(("kind", "row"), [(kind, row) for kind, rows in ROWS.items() for row in rows])
def test_a_row_is_read_back_as_it_was(kind: ChangeKind, row: Struct) -> None:
    its = KINDS[kind]

    assert row_from(its.table, its.row, list(values_of(its.table, row).values())) == row
    assert identity_of(its, row) in {"acme", "main", "dep_1", getattr(row, "id", "")}


@pytest.mark.parametrize("name", ["x" * 257, "a\0b", "\ud800"])
def test_a_text_that_no_database_keeps_is_refused_by_the_name_of_its_field(name: str) -> None:
    with pytest.raises(ValueError, match=r"^name: "):
        values_of(KINDS["key"].table, key_row(name=name))
