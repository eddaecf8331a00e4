import contextlib
import os
import sys
from pathlib import Path

import anyio
import pytest

from llmgateway.storage.address import Address, file_turn, locate, revision_in
from llmgateway.storage.migrations.apart import upgrade_apart
from llmgateway.storage.migrations.revisions import HEAD, VERSION_TABLE, DatabaseNewerError
from llmgateway.storage.queries import StorageAwayError
from tests.storage.test_address import at


@pytest.fixture(autouse=True)
def _nothing_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a gateway: whoever has Alembic already needs no process of its own for it."""
    monkeypatch.delitem(sys.modules, "alembic.command", raising=False)


def children(mark: str) -> list[str]:
    """Find the processes that this one has started and that have something in their command line."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            parent = line.with_name("stat").read_text().rpartition(")")[2].split()[1]
            if parent == str(os.getpid()) and mark in line.read_text():
                found.append(line.parent.name)
    return found


async def test_child_migrates_and_says_nothing(url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    await upgrade_apart(locate(url, tmp_path))
    await upgrade_apart(locate(url, tmp_path))

    if (path := locate(url, tmp_path).path) is not None:
        assert revision_in(path) == HEAD
    assert capfd.readouterr() == ("", "")
    assert children("migrations.apart") == []


async def test_several_at_once_all_succeed(tmp_path: Path) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(upgrade_apart, Address(path=tmp_path / "x.db"))

    assert revision_in(tmp_path / "x.db") == HEAD


async def test_error_in_the_child_comes_back_as_what_it_is(tmp_path: Path) -> None:
    at(tmp_path / "x.db", "9999")

    with pytest.raises(DatabaseNewerError, match="at revision 9999, this program knows"):
        await upgrade_apart(Address(path=tmp_path / "x.db"))
    with pytest.raises(StorageAwayError, match="cannot be written"):
        await upgrade_apart(Address(path=tmp_path / "x.db" / "y.db"))
    with pytest.raises(StorageAwayError, match="ConnectionRefusedError"):
        await upgrade_apart(Address(dsn="postgresql://gateway:canary@127.0.0.1:1/x"))


async def test_child_that_breaks_off_is_an_error_to_try_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])

    with pytest.raises(StorageAwayError, match=r"broke off \(1\): ModuleNotFoundError"):
        await upgrade_apart(Address(path=tmp_path / "x.db"))


async def test_where_no_process_may_be_started_this_one_migrates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing"))

    await upgrade_apart(Address(path=tmp_path / "x.db"))

    assert revision_in(tmp_path / "x.db") == HEAD


async def test_child_ends_with_whoever_waits_for_it(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    with file_turn(path, "migrations") as mine:
        assert mine
        async with anyio.create_task_group() as group:
            group.start_soon(upgrade_apart, Address(path=path))
            while not children("migrations.apart"):  # noqa: ASYNC110  the system has no event for it
                await anyio.sleep(0.01)
            group.cancel_scope.cancel()

    assert children("migrations.apart") == []
    assert VERSION_TABLE.encode() not in (path.read_bytes() if path.exists() else b"")
