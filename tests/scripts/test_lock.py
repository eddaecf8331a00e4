from pathlib import Path

from scripts import lock

WANTED = ["one>=1,<2", "two"]
HASH = " \\\n    --hash=sha256:0123\n"


def write(folder: Path, *pins: str, head: str | None = None, tail: str = "") -> list[str]:
    head = f"# from: {lock.fingerprint(WANTED)}\n" if head is None else head
    (folder / "some.lock").write_text(head + "".join(pin + HASH for pin in pins) + tail)
    return list(lock.faults("some.lock", WANTED, folder))


def test_lock_that_fits_has_no_fault(tmp_path: Path) -> None:
    assert write(tmp_path, "one==1.5", "two==3") == []


def test_order_of_requirements_does_not_matter() -> None:
    assert lock.fingerprint(WANTED) == lock.fingerprint(WANTED[::-1])


def test_missing_lock_is_a_fault(tmp_path: Path) -> None:
    assert list(lock.faults("some.lock", WANTED, tmp_path)) == ["some.lock is missing"]


def test_lock_made_from_other_requirements_is_a_fault(tmp_path: Path) -> None:
    assert "was made from other requirements" in write(tmp_path, "one==1.5", "two==3", head="# from: 0\n")[0]


def test_lock_without_what_is_asked_for_is_a_fault(tmp_path: Path) -> None:
    assert write(tmp_path, "one==2.5") == [
        "some.lock has one 2.5, pyproject.toml asks for <2,>=1",
        "some.lock has no two",
    ]


def test_lock_that_names_an_address_is_a_fault(tmp_path: Path) -> None:
    assert "names an address" in write(tmp_path, "one==1.5", "two==3", tail="--index-url https://packages.example\n")[0]


def test_package_without_a_hash_is_a_fault(tmp_path: Path) -> None:
    assert write(tmp_path, "one==1.5", tail="two==3\n") == ["some.lock has a package without a hash"]
