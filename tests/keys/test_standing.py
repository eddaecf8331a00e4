from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs
from typing_extensions import override

from llmgateway.caller import ANYONE, Caller
from llmgateway.errors import AuthenticationError, KeysAwayError
from llmgateway.keys.standing import Standing
from llmgateway.storage.admin.rows import KeyRow, OrganizationRow

NOW = datetime.now(UTC)
ROW = KeyRow(id="key_1", name="app", hash="0" * 64, prefix="lgw_ab", created_at=NOW, organization_id="org")
CALLER = Caller(kind="client", key_id="key_1", organization="org", models=("chat",))


class Rows:
    def __init__(self, row: KeyRow | None) -> None:
        self.row = row

    async def key(self, key_id: str) -> KeyRow | None:
        return self.row if self.row is not None and self.row.id == key_id else None

    async def organization(self, organization_id: str) -> OrganizationRow | None:
        return OrganizationRow(id=organization_id, name="Org", created_at=NOW)


class Away(Rows):
    @override
    async def key(self, key_id: str) -> KeyRow | None:
        raise OSError("away")


async def test_a_caller_is_what_the_key_says_now() -> None:
    found = await Standing(Rows(structs.replace(ROW, models=("other",))))(CALLER)

    assert (found.models, found.organization) == (("other",), "org")


@pytest.mark.parametrize(
    "row",
    [None, structs.replace(ROW, disabled=True), structs.replace(ROW, expires_at=NOW - timedelta(seconds=1))],
    ids=["removed", "disabled", "over"],
)
async def test_a_key_that_no_longer_holds_is_refused(row: KeyRow | None) -> None:
    with pytest.raises(AuthenticationError):
        await Standing(Rows(row))(CALLER)


async def test_without_the_database_nobody_can_say() -> None:
    with pytest.raises(KeysAwayError):
        await Standing(Away(None))(CALLER)


@pytest.mark.parametrize("caller", [ANYONE, Caller(kind="shared", key_id="ab12"), Caller(kind="admin")])
async def test_whoever_has_no_key_of_his_own_is_whoever_he_was(caller: Caller) -> None:
    assert await Standing(Away(None))(caller) is caller
