import os
import re
import stat
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import anyio
import pytest
import structlog

from llmgateway.caller import Budget
from llmgateway.cli import main
from llmgateway.ids import new_id
from llmgateway.keys.hashing import hash_of
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.admin.rows import KeyRow
from llmgateway.storage.admin.sealing import Seal, new_encryption_key
from llmgateway.storage.storage import Storage
from tests.storage.admin.given import deed, key_row, provider_row, run_sql_without_triggers
from tests.storage.databases import postgres

Answer = TypeVar("Answer")
Capture = pytest.CaptureFixture[str]
FOLDER = "LLMGATEWAY_DATA_DIR"
URL = "LLMGATEWAY_DATABASE_URL"


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def environ(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    if request.param == "sqlite":
        return {FOLDER: str(tmp_path)}
    server = request.getfixturevalue("postgres_url")
    name = new_id("db")
    anyio.run(_make_database, server, name)
    return {FOLDER: str(tmp_path), URL: server.rpartition("/")[0] + f"/{name}"}


async def _make_database(server: str, name: str) -> None:
    import asyncpg  # type: ignore[import-untyped]  # noqa: PLC0415  only for one of the two

    admin = await asyncpg.connect(server)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()


def ask(environ: dict[str, str], question: Callable[[AdminStorage], Awaitable[Answer]]) -> Answer:
    """Ask the database that the command writes to."""

    async def run() -> Answer:
        storage = Storage(environ.get(URL), Path(environ[FOLDER]), logger=structlog.get_logger())
        await storage.open()
        try:
            return await question(AdminStorage(storage))
        finally:
            await storage.close()

    return anyio.run(run)


def made(environ: dict[str, str], capsys: Capture, *arguments: str) -> tuple[str, str]:
    """Make a key by the command; gives the key and its id."""
    assert main(["keys", *arguments], environ) == 0
    captured = capsys.readouterr()
    found = re.fullmatch(r"key: (lgw_[\w-]{43})\nid: (key_\w+)\n", captured.out)
    assert found is not None, captured
    assert "shown this once" in captured.err
    return found[1], found[2]


def all_of(environ: dict[str, str]) -> list[KeyRow]:
    return list(ask(environ, lambda admin: admin.keys()).rows)


def test_key_is_made_listed_and_rotated(environ: dict[str, str], capsys: Capture) -> None:
    secret, key_id = made(
        environ,
        capsys,
        *("create", "--name", "app", "--organization", "acme", "--models", "openai/*", "chat", "--tier", "gold"),
        *("--strategy", "least_busy"),
        *("--budget-usd", "50", "--period", "week", "--expires", "30d"),
    )
    [row] = all_of(environ)
    assert (row.id, row.name, row.hash, row.prefix) == (key_id, "app", hash_of(secret), secret[:12])
    assert (row.organization_id, row.models, row.tier) == ("acme", ("openai/*", "chat"), "gold")
    assert row.strategy == "least_busy"
    assert row.budget == Budget(50.0, "week")
    assert row.expires_at is not None
    assert timedelta(days=29) < row.expires_at - datetime.now(UTC) <= timedelta(days=30)
    made(environ, capsys, "create", "--name", "plain")

    assert main(["keys", "list"], environ) == 0
    [headings, first, second] = capsys.readouterr().out.splitlines()
    assert headings.split()[:3] == ["ID", "PREFIX", "NAME"]
    assert all(part in first for part in (key_id, secret[:12], "app", "acme", "openai/* chat", "$50 / week"))
    assert second.split()[-3:] == ["*", "in", "force"]
    assert secret[12:] not in first

    anew, same_id = made(environ, capsys, "rotate", key_id, "--overlap", "1h")
    [row, _] = all_of(environ)
    assert (same_id, row.hash, row.previous_hash) == (key_id, hash_of(anew), hash_of(secret))
    assert row.previous_until is not None
    assert row.previous_until - datetime.now(UTC) <= timedelta(hours=1)
    last, _ = made(environ, capsys, "rotate", anew[:12])
    [row, _] = all_of(environ)
    assert (row.hash, row.previous_hash, row.previous_until, row.name) == (hash_of(last), None, None, "app")


def test_revoked_keys_are_gone_and_all_is_in_the_audit_log(environ: dict[str, str], capsys: Capture) -> None:
    secret, key_id = made(environ, capsys, "create", "--name", "app", "--organization", "acme")
    _, other_id = made(environ, capsys, "create", "--name", "other")
    made(environ, capsys, "rotate", other_id)

    assert main(["keys", "revoke", secret[:12]], environ) == 0
    assert main(["keys", "revoke", other_id], environ) == 0
    assert f"revoked: {key_id} (app)\n" in capsys.readouterr().out
    assert all_of(environ) == []
    assert main(["keys", "list", "--organization", "acme"], environ) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    said = [(one.actor, one.action) for one in ask(environ, lambda admin: admin.audit()).rows]
    assert said == [("cli", f"key.{action}") for action in ("revoke", "revoke", "rotate", "create", "create")]


def test_no_secret_is_in_the_database(tmp_path: Path, capsys: Capture) -> None:
    secret, _ = made({FOLDER: str(tmp_path)}, capsys, "create", "--name", "app")

    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())

    assert secret[:12].encode() in kept
    assert secret[12:].encode() not in kept


def test_key_may_be_revoked_by_all_of_it_and_is_not_said_again(tmp_path: Path, capsys: Capture) -> None:
    environ = {FOLDER: str(tmp_path)}
    secret, key_id = made(environ, capsys, "create", "--name", "app")
    other = secret[:12] + "A" * 35

    assert main(["keys", "revoke", other], environ) == 2
    assert other[:16] not in capsys.readouterr().err
    assert main(["keys", "revoke", secret], environ) == 0

    assert f"revoked: {key_id}" in capsys.readouterr().out


def test_what_names_no_key_or_several_is_said(tmp_path: Path, capsys: Capture) -> None:
    environ = {FOLDER: str(tmp_path)}
    rows = [key_row(prefix="lgw_same_one"), key_row(prefix="lgw_same_one", name="\x1b[31m\n")]

    async def add(admin: AdminStorage) -> None:
        for row in rows:
            await admin.add_key(row, deed())

    assert main(["keys", "revoke", "nothing"], environ) == 2
    assert "fault: There is no key 'nothing': `llmgateway keys list` shows" in capsys.readouterr().err
    ask(environ, add)

    assert main(["keys", "rotate", "lgw_same_one"], environ) == 2
    said = capsys.readouterr().err
    assert all(row.id in said for row in rows)
    assert len(all_of(environ)) == 2
    main(["keys", "list"], environ)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "?[31m?" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create"], "--name"),
        (["create", "--name", "x", "--expires", "2020-01-01"], "'2020-01-01' is over already"),
        (["create", "--name", "x", "--expires", "soon"], "'soon' is no date such as 2027-01-01"),
        (["create", "--name", "x", "--expires", "999999w"], "is no date"),
        (["create", "--name", "x", "--budget-usd", "-1"], "a number of US dollars above 0"),
        (["create", "--name", "x", "--budget-usd", "nan"], "a number of US dollars above 0"),
        (["create", "--name", "x", "--budget-usd", "1", "--period", "hour"], "invalid choice"),
        (["rotate", "x", "--overlap", "1"], "a number and s, m, h, d or w"),
        ([], "deed"),
    ],
)
def test_wrong_options_say_what_is_right(arguments: list[str], said: str, tmp_path: Path, capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["keys", *arguments], {FOLDER: str(tmp_path)})

    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "more", "code", "said"),
    [
        (["create", "--name", "x", "--period", "day"], {}, 2, "add --budget-usd"),
        (["create", "--name", "x" * 300], {}, 2, "fault: name: 300 characters, 256 at most"),
        (["list"], {"LLMGATEWAY_PORT": "x"}, 2, "fault: LLMGATEWAY_PORT"),
        (["list"], {URL: "sqlite:///:memory:"}, 2, "fault: An SQLite database in memory"),
        (["list"], {URL: "postgresql://u:canary@127.0.0.1:1/x"}, 1, "llmgateway: not done: ConnectionRefusedError"),
        (["rotate-encryption"], {"LLMGATEWAY_ENCRYPTION_KEYS": "short"}, 2, "llmgateway keys new-encryption-key"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: list[str], more: dict[str, str], code: int, said: str, tmp_path: Path, capsys: Capture
) -> None:
    assert main(["keys", *arguments], {FOLDER: str(tmp_path), **more}) == code

    err = capsys.readouterr().err
    assert said in err
    assert "canary" not in err
    assert len(err.splitlines()) == 1


def test_dates_are_the_beginning_of_the_day_in_utc(tmp_path: Path, capsys: Capture) -> None:
    environ = {FOLDER: str(tmp_path)}
    for given in ("2127-01-01", "2127-01-01T01:00:00+01:00"):
        made(environ, capsys, "create", "--name", "x", "--expires", given)

    assert {row.expires_at for row in all_of(environ)} == {datetime(2127, 1, 1, tzinfo=UTC)}


def test_encryption_is_rotated_to_the_first_key(environ: dict[str, str], capsys: Capture) -> None:
    assert main(["keys", "new-encryption-key"], environ) == 0
    new, old, other = capsys.readouterr().out.strip(), new_encryption_key(), new_encryption_key()

    async def add(admin: AdminStorage) -> None:
        await admin.add_provider(provider_row(sealed_key=Seal([old]).seal("sk-canary")), deed())

    assert main(["keys", "list"], environ) == 0
    ask(environ, add)

    assert main(["keys", "rotate-encryption"], {**environ, "LLMGATEWAY_ENCRYPTION_KEYS": f"{new},{other}"}) == 1
    assert "provider main: its key was encrypted with another key" in capsys.readouterr().err
    assert main(["keys", "rotate-encryption"], {**environ, "LLMGATEWAY_ENCRYPTION_KEYS": f"{new},{old}"}) == 0

    assert "encrypted anew: 1" in capsys.readouterr().out
    row = ask(environ, lambda admin: admin.provider("main"))
    assert row is not None
    assert Seal([new]).unseal(row.sealed_key or "") == "sk-canary"


def test_without_keys_the_file_has_them_but_not_with_postgresql(environ: dict[str, str], capsys: Capture) -> None:
    code = main(["keys", "rotate-encryption"], environ)

    captured = capsys.readouterr()
    file = Path(environ[FOLDER]) / "encryption.key"
    if URL in environ:
        assert code == 2
        assert "LLMGATEWAY_ENCRYPTION_KEYS is not set" in captured.err
        assert not file.exists()
    else:
        assert code == 0
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_audit_is_verified_and_the_first_bad_row_is_named(environ: dict[str, str], capsys: Capture) -> None:
    for name in ("a", "b", "c"):
        made(environ, capsys, "create", "--name", name)

    assert main(["audit", "verify"], environ) == 0
    assert capsys.readouterr().out == "audit: 3 rows, all as they were written\n"

    url = environ.get(URL) or f"sqlite:///{environ[FOLDER]}/llmgateway.db"
    anyio.run(run_sql_without_triggers, url, Path(environ[FOLDER]), "UPDATE audit SET actor = 'x' WHERE seq = 2")
    assert main(["audit", "verify"], environ) == 1
    assert capsys.readouterr().out == "audit: row 2: its hash is not that of what it says\n"


def test_command_works_as_a_program(tmp_path: Path) -> None:
    bare = {name: value for name, value in os.environ.items() if "LLMGATEWAY" not in name}  # noqa: TID251  a program's
    told = subprocess.run(
        [sys.executable, "-m", "llmgateway", "keys", "create", "--name", "app"],
        cwd=tmp_path,
        env=bare,
        capture_output=True,
        text=True,
        check=True,
    )

    assert told.stdout.startswith("key: lgw_")
    assert (tmp_path / "data" / "llmgateway.db").exists()


def test_an_organization_that_is_not_there_yet_is_noted(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["keys", "create", "--name", "app", "--organization", "acme"], environ) == 0

    assert "no organization acme yet" in capsys.readouterr().err
