import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from anyio import from_thread
from cryptography.fernet import Fernet
from msgspec import structs

from llmgateway.storage.admin import sealing
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.admin.sealing import (
    FILE,
    LazySeal,
    Resealed,
    Seal,
    SealError,
    key_file,
    new_encryption_key,
    rotate,
)
from llmgateway.storage.storage import Storage
from tests.lines import Lines
from tests.storage.admin.given import NOW, deed, provider_row

SECRET = "sk-canary-1234"  # noqa: S105  nobody's


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    old, new = new_encryption_key(), new_encryption_key()
    by_old = Seal([old]).seal(SECRET)

    both = Seal([new, old])

    assert SECRET not in by_old
    assert both.unseal(by_old) == SECRET
    assert Seal([new]).unseal(both.reseal(by_old)) == SECRET
    assert Fernet(new).decrypt(both.seal(SECRET)) == SECRET.encode()
    assert both.seal(SECRET) != both.seal(SECRET)


@pytest.mark.parametrize("sealed", ["", "x", "ü", "gAAAAABk" + "A" * 92])
def test_what_another_key_sealed_or_nobody_is_a_clear_error(sealed: str) -> None:
    seal = Seal([new_encryption_key()])

    for what in (sealed, Seal([new_encryption_key()]).seal(SECRET)):
        with pytest.raises(SealError, match="add the key it was encrypted with behind the others") as caught:
            seal.unseal(what)
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("key", ["", "short", "é" * 44, "A" * 44, "sk-canary" * 5])
def test_what_is_no_encryption_key_says_how_to_make_one(key: str) -> None:
    with pytest.raises(SealError, match=r"Encryption key 2 is none.*llmgateway keys new-encryption-key") as caught:
        Seal([new_encryption_key(), key])

    assert not key or key not in str(caught.value)
    with pytest.raises(SealError, match="no encryption key"):
        Seal([])


def test_without_keys_a_file_is_made_for_its_owner_alone_once(tmp_path: Path, lines: Lines) -> None:
    folder = tmp_path / "own"
    sealed = key_file(folder, [], lines.logger).seal(SECRET)

    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [FILE]
    assert key_file(folder, [], lines.logger).unseal(sealed) == SECRET
    assert lines.text().count("encryption_key_made") == 1
    assert (folder / FILE).read_text().strip() not in lines.text()


def test_processes_that_start_at_once_have_one_key(tmp_path: Path, lines: Lines) -> None:
    def seal(number: int) -> str:
        return key_file(tmp_path, [], lines.logger).seal(str(number))

    with ThreadPoolExecutor(8) as threads:
        sealed = list(threads.map(seal, range(8)))

    last = key_file(tmp_path, [], lines.logger)
    assert [last.unseal(one) for one in sealed] == [str(number) for number in range(8)]
    assert lines.text().count("encryption_key_made") == 1
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_one_that_is_late_takes_the_key_of_the_first(
    tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = new_encryption_key()

    def made_meanwhile() -> str:
        (tmp_path / FILE).write_text(first)
        (tmp_path / FILE).chmod(0o644)
        return new_encryption_key()

    monkeypatch.setattr(sealing, "new_encryption_key", made_meanwhile)
    seal = key_file(tmp_path, [], lines.logger)

    assert Seal([first]).unseal(seal.seal(SECRET)) == SECRET
    assert "encryption_key_made" not in lines.text()
    assert "encryption_key_readable" in lines.text()


def test_settings_go_before_the_file_which_goes_on_opening_what_it_sealed(tmp_path: Path, lines: Lines) -> None:
    sealed = key_file(tmp_path, [], lines.logger).seal(SECRET)
    key = new_encryption_key()

    seal = key_file(tmp_path, [key], lines.logger)

    assert seal.unseal(sealed) == SECRET
    assert Seal([key]).unseal(seal.seal(SECRET)) == SECRET
    assert key_file(tmp_path / "empty", [key], lines.logger).unseal(Seal([key]).seal(SECRET)) == SECRET
    assert not (tmp_path / "empty").exists()


def test_file_that_cannot_be_made_or_holds_no_key_says_what_to_do(tmp_path: Path, lines: Lines) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SealError, match="set LLMGATEWAY_ENCRYPTION_KEYS"):
        key_file(tmp_path / "file", [], lines.logger)

    (tmp_path / FILE).touch(mode=0o600)
    with pytest.raises(SealError, match="no encryption key"):
        key_file(tmp_path, [], lines.logger)


def test_seal_that_nobody_needs_makes_no_file(tmp_path: Path, lines: Lines) -> None:
    lazy = LazySeal(tmp_path, [], lines.logger)
    assert list(tmp_path.iterdir()) == []

    with ThreadPoolExecutor(4) as threads:
        sealed = list(threads.map(lazy.seal, [SECRET] * 4))

    assert [lazy.unseal(one) for one in sealed] == [SECRET] * 4
    assert key_file(tmp_path, [], lines.logger).unseal(sealed[0]) == SECRET
    assert lines.text().count("encryption_key_made") == 1


async def test_rotation_seals_every_key_anew_and_says_whose_it_could_not(admin: AdminStorage) -> None:
    old, new, other = (new_encryption_key() for _ in range(3))
    for number in range(3):
        moment = NOW + timedelta(seconds=number)
        sealed = Seal([old]).seal(f"{SECRET}-{number}")
        await admin.add_provider(provider_row(name=f"p{number}", created_at=moment, sealed_key=sealed), deed())
    await admin.add_provider(provider_row(name="none"), deed())
    lost = provider_row(name="lost", sealed_key=Seal([other]).seal(SECRET))
    await admin.add_provider(lost, deed())

    assert await rotate(admin, Seal([new, old])) == Resealed(3, ["lost"])

    for number in range(3):
        row = await admin.provider(f"p{number}")
        assert row is not None
        assert Seal([new]).unseal(row.sealed_key or "") == f"{SECRET}-{number}"
    assert await admin.provider("lost") == lost
    audit = (await admin.audit(action="provider.rotate_encryption")).rows
    assert sorted(row.subject for row in audit) == ["p0", "p1", "p2"]
    assert len(await admin.changes_after(5)) == 3


async def test_key_that_is_changed_during_the_rotation_is_not_put_back(storage: Storage) -> None:
    old, new = new_encryption_key(), new_encryption_key()
    admin = AdminStorage(storage)
    await admin.add_provider(row := provider_row(sealed_key=Seal([old]).seal("first")), deed())

    class Meanwhile:
        """Somebody replaces the provider's key while the old one is sealed anew."""

        def __init__(self) -> None:
            self.seal = Seal([new, old])

        def reseal(self, sealed: str) -> str:
            if self.seal.unseal(sealed) == "first":
                other = structs.replace(row, sealed_key=Seal([old]).seal("second"))
                from_thread.run(admin.replace_provider, other, deed())
            return self.seal.reseal(sealed)

    assert (await rotate(admin, Meanwhile())).done == 1  # type: ignore[arg-type]

    found = await admin.provider("main")
    assert found is not None
    assert Seal([new]).unseal(found.sealed_key or "") == "second"
