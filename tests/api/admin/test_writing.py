from collections.abc import Sequence

import anyio
import pytest

from llmgateway.api.admin.writing import every_row, in_time, not_there, of_store, replaced
from llmgateway.errors import ConflictError, InvalidRequestError, LedgerAwayError, LimitsAwayError, NotFoundError
from llmgateway.storage.admin.outcomes import OvertakenError, TakenError
from llmgateway.storage.admin.rows import Deed, Page
from llmgateway.stores.base import StoreAwayError
from tests.api.admin.office import Office

DEED = Deed(actor="admin", action="thing.update", subject="x")


def missing() -> NotFoundError:
    return not_there("thing", "x")


class Drawer:
    """Holds one number, which others change as often as they are told to."""

    def __init__(self, number: int | None = 1, others: int = 0) -> None:
        self.number = number
        self.others = others
        self.written: list[int] = []

    async def read(self) -> int | None:
        return self.number

    async def replace(self, new: int, deed: Deed, *, instead_of: int | None = None) -> bool:
        if self.others and self.number is not None:
            self.others -= 1
            self.number += 10
            raise OvertakenError("too late")
        self.number = new
        self.written.append(new)
        return True


async def test_a_change_is_made_again_on_what_others_made_meanwhile() -> None:
    drawer = Drawer(others=2)

    assert await replaced(drawer.read, lambda row: (row + 1, DEED), drawer.replace, missing) == (22, True)
    assert drawer.written == [22]


async def test_it_is_given_up_when_others_never_stop() -> None:
    drawer = Drawer(others=100)

    with pytest.raises(ConflictError) as caught:
        await replaced(drawer.read, lambda row: (row + 1, DEED), drawer.replace, missing)
    assert caught.value.code == "changed_meanwhile"


async def test_no_change_is_no_write() -> None:
    drawer = Drawer()

    assert await replaced(drawer.read, lambda row: (row, DEED), drawer.replace, missing) == (1, False)
    assert drawer.written == []


async def test_what_is_not_there_cannot_be_changed() -> None:
    with pytest.raises(NotFoundError, match="There is no thing `x`"):
        await replaced(Drawer(None).read, lambda row: (row, DEED), Drawer().replace, missing)


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (TakenError("x"), ConflictError),
        (ValueError("a text is too long"), InvalidRequestError),
        (OSError("db.internal refused"), LedgerAwayError),
    ],
)
async def test_what_the_database_says_is_told_as_what_to_do(raised: Exception, told: type[Exception]) -> None:
    async def question() -> None:
        raise raised

    with pytest.raises(told) as caught:
        await in_time(question)
    assert "internal" not in str(caught.value)


async def test_a_store_that_is_away_is_told_without_its_address() -> None:
    async def question() -> None:
        raise StoreAwayError("redis.internal refused")

    with pytest.raises(LimitsAwayError) as caught:
        await of_store(question)
    assert "internal" not in str(caught.value)


async def test_a_list_is_walked_to_its_end() -> None:
    pages: Sequence[list[int]] = ([1, 2], [3], [])

    async def read(number: int, size: int) -> Page[int]:
        assert size > 0
        return Page(rows=pages[number - 1], total=3)

    assert [row async for row in every_row(read)] == [1, 2, 3]


async def test_two_changes_of_one_key_at_once_are_both_made(office: Office) -> None:
    made = await office.ask("POST", "/admin/keys", {"name": "x"})
    path = f"/admin/keys/{made['id']}"

    async with anyio.create_task_group() as group:
        for body in ({"name": "y"}, {"models": ["chat"]}, {"disabled": True}, {"metadata": {"a": "b"}}):
            group.start_soon(office.ask, "PATCH", path, body)

    shown = await office.ask("GET", path)
    assert (shown["name"], shown["models"], shown["disabled"], shown["metadata"]) == ("y", ["chat"], True, {"a": "b"})
