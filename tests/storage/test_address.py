import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from llmgateway.storage.address import (
    Address,
    changes_in,
    file_turn,
    holds_before,
    holds_jobs,
    locate,
    make_file,
    mark_of,
    ping,
    reason,
    refuses_writes,
    revision_in,
)
from llmgateway.storage.admin.outcomes import ChangesGoneError
from llmgateway.storage.admin.rows import Change
from llmgateway.storage.migrations.revisions import HEAD, VERSION_TABLE, DatabaseNewerError
from llmgateway.storage.queries import StorageAwayError

FOLDER = Path("/srv/gateway")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        (None, Address(path=FOLDER / "llmgateway.db")),
        ("sqlite://", Address(path=FOLDER / "llmgateway.db")),
        ("sqlite:///relative%20name.db", Address(path=Path("relative name.db"))),
        ("sqlite+aiosqlite:////absolute.db?timeout=5", Address(path=Path("/absolute.db"))),
        ("postgres://u:p@host:1/db?sslmode=require", Address(dsn="postgresql://u:p@host:1/db?sslmode=require")),
        ("postgresql://host/db", Address(dsn="postgresql://host/db")),
        ("postgresql+psycopg2://host/db", Address(dsn="postgresql://host/db")),
    ],
)
def test_every_spelling_of_an_address_is_understood(url: str | None, address: Address) -> None:
    assert locate(url, FOLDER) == address


@pytest.mark.parametrize(("url", "said"), [("mysql://x/y", "sqlite:// or"), ("sqlite:///:memory:", "name a file")])
def test_address_that_leads_nowhere_says_what_would(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        locate(url, FOLDER)


def test_reason_is_one_line_and_short() -> None:
    assert reason(OSError("no\n  route" + "x" * 999))[:20] == "OSError: no routexxx"
    assert len(reason(OSError("x" * 999))) < 320


def run(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def at(path: Path, revision: str) -> None:
    run(path, f"CREATE TABLE {VERSION_TABLE} (version_num)", f"INSERT INTO {VERSION_TABLE} VALUES ('{revision}')")  # noqa: S608


@pytest.mark.parametrize(
    ("attribute", "code", "full"),
    [
        ("sqlite_errorcode", 13, True),
        ("sqlite_errorcode", 10 | 3 << 8, True),
        ("sqlite_errorcode", 5, False),
        ("sqlstate", "53100", True),
        ("sqlstate", "57P01", False),
    ],
)
def test_a_disk_that_is_full_is_told_from_a_database_that_is_away(attribute: str, code: object, *, full: bool) -> None:
    error, origin = RuntimeError("of SQLAlchemy"), RuntimeError("of the driver")
    setattr(origin, attribute, code)
    error.orig = origin  # type: ignore[attr-defined]  # as SQLAlchemy does

    assert refuses_writes(error) is full
    assert not refuses_writes(OSError("gone"))


def test_file_that_is_not_there_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "own" / "a?b#c%d.db"

    assert revision_in(path) is None
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path.parent, path)] == [0o700, 0o600]


def test_revision_is_read_and_nothing_is_left_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a?b#c%d.db"
    run(path, "PRAGMA journal_mode=WAL", "CREATE TABLE other (x)")
    assert revision_in(path) is None
    at(path, HEAD)

    assert revision_in(path) == HEAD
    ping(path)
    assert list(tmp_path.iterdir()) == [path]


def test_revision_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    at(tmp_path / "x.db", "9999")

    with pytest.raises(DatabaseNewerError, match="9999"):
        revision_in(tmp_path / "x.db")


def test_what_is_no_database_is_away(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("not a database" * 100)

    with pytest.raises(StorageAwayError, match="DatabaseError: file is not a database"):
        revision_in(tmp_path / "x.db")
    with pytest.raises(StorageAwayError, match="OperationalError: unable to open"):
        ping(tmp_path / "gone.db")
    with pytest.raises(StorageAwayError, match="cannot be written"):
        make_file(tmp_path / "x.db" / "y.db")
    with pytest.raises(StorageAwayError), file_turn(tmp_path / "no" / "x.db", "sweep"):
        pass


def test_look_drops_no_lock_that_this_process_holds(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    at(path, HEAD)
    run(path, "PRAGMA journal_mode=WAL")
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("BEGIN IMMEDIATE")

        assert revision_in(path) == HEAD

        with (
            pytest.raises(sqlite3.OperationalError, match="locked"),
            closing(sqlite3.connect(path, timeout=0)) as other,
        ):
            other.execute("BEGIN IMMEDIATE")


def test_what_is_old_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    run(path, "CREATE TABLE ledger (at_us)", "INSERT INTO ledger VALUES (5)")

    assert (holds_before(path, 5), holds_before(path, 6)) == (False, True)


def test_changes_are_read_and_before_the_first_start_there_are_none(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.touch()
    assert [changes_in(path, seq) for seq in (None, 0, 7)] == [[], [], []]
    run(
        path, "CREATE TABLE changes (seq, kind, subject)", "INSERT INTO changes VALUES (6, 'key', 'a'), (7, 'key', 'b')"
    )

    assert changes_in(path, None) == changes_in(path, 6) == [Change(7, "key", "b")]
    assert changes_in(path, 7) == []
    with pytest.raises(ChangesGoneError):
        changes_in(path, 5)
    with pytest.raises(StorageAwayError):
        changes_in(tmp_path / "gone.db", 5)


def test_jobs_are_looked_for_by_what_is_to_be_done_with_them(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    columns = "status, lease_until_us, hook_at_us, expires_at_us, repeats, created_at_us"
    run(path, f"CREATE TABLE jobs ({columns})", "INSERT INTO jobs VALUES ('completed', NULL, NULL, NULL, NULL, 1)")

    def held() -> list[bool]:
        found = [holds_jobs(path, "live"), holds_jobs(path, "hooks"), holds_jobs(path, "leaving", 5, 5)]
        run(path, "DELETE FROM jobs")
        return found

    assert held() == [False, False, False]
    for values, expected in {
        "'queued', NULL, NULL, NULL, NULL, 1": [True, False, False],
        "'processing', 9, NULL, NULL, NULL, 1": [True, False, False],
        "'failed', NULL, 9, 6, 'x', 5": [False, True, False],
        "'failed', NULL, NULL, 5, NULL, 5": [False, False, True],
        "'failed', NULL, NULL, 6, 'x', 4": [False, False, True],
    }.items():
        run(path, f"INSERT INTO jobs VALUES ({values})")  # noqa: S608
        assert held() == expected
    with pytest.raises(StorageAwayError):
        holds_jobs(tmp_path / "gone.db", "live")


def age(*paths: Path) -> None:
    """Let files have been written to long ago, each at a moment of its own."""
    for number, path in enumerate(paths):
        os.utime(path, (1_000_000_000 + number, 1_000_000_000 + number))


def test_mark_is_another_after_every_write_and_is_none_shortly_after_one(tmp_path: Path) -> None:
    path, log = tmp_path / "x.db", tmp_path / "x.db-wal"
    marks = []
    run(path, "PRAGMA journal_mode=WAL", "CREATE TABLE other (x)")
    assert mark_of(path) is None
    age(path)
    marks += [mark_of(path), mark_of(path)]

    with closing(sqlite3.connect(path)) as open_all_the_time:
        for value in (1, 2):
            open_all_the_time.execute("INSERT INTO other VALUES (?)", [value])
            open_all_the_time.commit()
            assert mark_of(path) is None
            age(path, log)
            marks.append(mark_of(path))
    other = tmp_path / "other.db"
    other.write_bytes(path.read_bytes())
    age(other, path)
    marks += [mark_of(path), mark_of(other)]

    assert marks[0] == marks[1]
    assert len({*marks}) == 5
    assert None not in marks
