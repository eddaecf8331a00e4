from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import structs

from llmgateway.catalog.snapshot import Catalog
from llmgateway.documents_api.shelves.keeping import Keeping, named_in, not_there, unique
from llmgateway.errors import ConflictError, LedgerAwayError, NotFoundError
from llmgateway.jobs.services import Services
from llmgateway.storage.admin.outcomes import OvertakenError, TakenError
from llmgateway.storage.admin.rows import Deed, EntityKind
from tests.jobs.test_services import flavor, service

DEED = Deed(actor="test", action="service.update", subject="s")


class Rows:
    """One service, which others change a number of times first."""

    def __init__(self, overtaken: int = 0) -> None:
        self.row: Any = service("s")
        self.overtaken = overtaken
        self.fault: Exception | None = None
        self.told = 0

    async def entity(self, kind: EntityKind, identity: str, /) -> Any:
        return self.row if identity == "s" else None

    async def every(self, kind: EntityKind, /) -> Sequence[Any]:
        if self.fault is not None:
            raise self.fault
        return {"service": [self.row], "flavor": [flavor("a"), flavor("lost", "gone")]}.get(kind, [])

    async def add_entity(self, kind: EntityKind, row: Any, deed: Deed, /) -> None:
        raise TakenError("there is one")

    async def replace_entity(self, kind: EntityKind, row: Any, deed: Deed, /, *, instead_of: Any = None) -> bool:
        if self.overtaken:
            self.overtaken -= 1
            raise OvertakenError
        self.row = row
        return True

    async def remove_entity(self, kind: EntityKind, identity: str, deed: Deed, /) -> bool:
        return False

    async def changed(self) -> None:
        self.told += 1


def kept(rows: Rows) -> Keeping:
    def catalog() -> Catalog:
        return Catalog({}, {}, "1")

    return Keeping(rows, Services(rows), catalog, rows.changed, now=lambda: datetime(2026, 1, 1, tzinfo=UTC))


def renamed(row: Any) -> tuple[Any, Deed]:
    return structs.replace(row, name="new"), DEED


async def test_a_change_that_somebody_overtook_is_made_again() -> None:
    rows = Rows(overtaken=2)

    assert (await kept(rows).replace("service", "s", renamed)).name == "new"
    assert rows.told == 1


async def test_who_is_always_overtaken_gives_up() -> None:
    with pytest.raises(ConflictError, match="Others are changing it") as raised:
        await kept(Rows(overtaken=99)).replace("service", "s", renamed)

    assert raised.value.code == "changed_meanwhile"


async def test_what_stays_as_it_is_is_not_written() -> None:
    rows = Rows()

    assert await kept(rows).replace("service", "s", lambda row: (row, DEED)) == rows.row
    assert rows.told == 0


async def test_what_is_not_there_is_neither_changed_nor_removed() -> None:
    with pytest.raises(NotFoundError, match="GET /api/v1/services lists them"):
        await kept(Rows()).replace("service", "none", renamed)
    with pytest.raises(NotFoundError):
        await kept(Rows()).remove("service", "none", DEED)


async def test_a_taken_name_is_a_conflict_and_a_database_that_is_away_says_so() -> None:
    rows = Rows()
    with pytest.raises(ConflictError) as raised:
        await kept(rows).add("service", service("s"), DEED)
    rows.fault = OSError("10.0.0.7 does not answer")
    with pytest.raises(LedgerAwayError) as away:
        await kept(rows).every("service")

    assert raised.value.code == "already_exists"
    assert "10.0.0.7" not in away.value.message
    assert rows.told == 0


async def test_flavors_without_their_service_are_not_known() -> None:
    known = await kept(Rows()).known()

    assert list(known.flavors) == ["a"]


def test_names_are_written_as_people_read_them() -> None:
    assert named_in(["a", "b"]) == "`a`, `b`"
    assert named_in("abcde") == "`a`, `b`, `c` and 2 more"
    assert (unique(None, "x"), unique("acme", "x")) == ("/x", "acme/x")
    assert "There is no service type `x`" in not_there("service_type", "x").message
