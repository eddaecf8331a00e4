import msgspec
import pytest

from llmgateway.storage.admin.records import KINDS
from llmgateway.storage.admin.rows import EntityKind
from tests.storage.admin.entities import ENTITIES, service_row


@pytest.mark.parametrize("kind", ENTITIES)
def test_rows_are_read_back_from_json(kind: EntityKind) -> None:
    its = KINDS[kind].row

    for row in ENTITIES[kind]:
        assert msgspec.json.decode(msgspec.json.encode(row), type=its) == row


def test_a_row_cannot_be_changed_by_whoever_read_it() -> None:
    with pytest.raises(AttributeError):
        service_row().is_active = False  # type: ignore[misc]
