"""Write the locks, or check that they still say what pyproject.toml asks for.

Without an option it resolves, keeping versions that still fit (needs the network); `--upgrade` takes the newest that
fit; `--check` only compares, without the network.
"""

import argparse
import hashlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
# The lock of everything comes first: the two smaller ones are cut to its versions.
DEV, RUN, BUILD = "requirements-dev.lock", "requirements.lock", "requirements-build.lock"
SOURCES = {
    DEV: ["pyproject.toml", "--group", "dev", "--group", "build"],
    RUN: ["pyproject.toml", "--constraint", DEV],
    BUILD: ["--group", "build", "--constraint", DEV],
}
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def asked() -> dict[str, list[str]]:
    """Return what pyproject.toml asks of each lock."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    run: list[str] = project["project"]["dependencies"]
    groups: dict[str, list[str]] = project["dependency-groups"]
    return {DEV: run + groups["dev"] + groups["build"], RUN: run, BUILD: groups["build"]}


def fingerprint(requirements: list[str]) -> str:
    """Return a short hash of what a lock was made from."""
    return hashlib.sha256("\n".join(sorted(requirements)).encode()).hexdigest()[:16]


def faults(lock: str, requirements: list[str], folder: Path = ROOT) -> Iterator[str]:
    """Yield what is wrong with one lock."""
    path = folder / lock
    if not path.exists():
        yield f"{lock} is missing"
        return
    text = path.read_text()
    if f"# from: {fingerprint(requirements)}\n" not in text:
        yield f"{lock} was made from other requirements than pyproject.toml has now"
    pins = {canonicalize_name(name): version for name, version in PIN.findall(text)}
    for requirement in map(Requirement, requirements):
        version = pins.get(canonicalize_name(requirement.name))
        if version is None:
            yield f"{lock} has no {requirement.name}"
        elif not requirement.specifier.contains(Version(version)):
            yield f"{lock} has {requirement.name} {version}, pyproject.toml asks for {requirement.specifier}"
    if "://" in text or re.search(r"^-", text, re.MULTILINE):
        yield f"{lock} names an address or an option: it may hold packages, versions and hashes only"
    if len(re.findall(r"==.*\\\n    --hash=sha256:", text)) != len(pins):
        yield f"{lock} has a package without a hash"


def write(lock: str, requirements: list[str], options: list[str]) -> None:
    """Resolve one lock."""
    print(f"==> resolving {lock}")
    command = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet", "--universal"]
    command += ["--python-version", "3.11", "--generate-hashes", "--no-header", *options]
    command += [*SOURCES[lock], "--output-file", lock]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # noqa: S603  the arguments are ours
    path = ROOT / lock
    head = f"# Made by `make lock`; do not edit.\n# from: {fingerprint(requirements)}\n"
    path.write_text(head + path.read_text())


def main() -> int:
    """Do what the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare, without the network")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    arguments = parser.parse_args()
    wanted = asked()
    if not arguments.check:
        for lock in SOURCES:
            write(lock, wanted[lock], ["--upgrade"] if arguments.upgrade else [])
    found = [fault for lock, requirements in wanted.items() for fault in faults(lock, requirements)]
    for fault in found:
        print(f"{fault}: run `make lock`")
    if not found:
        print("The locks match pyproject.toml.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
