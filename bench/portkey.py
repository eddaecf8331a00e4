"""Portkey's gateway, from npm into a folder of its own: the lean peer."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from bench.commands import run

VERSION = "1.15.2"
# npm wants a folder with these two in it.
PINS = Path(__file__).with_name("npm-portkey")
_PINNED = ("package.json", "package-lock.json")


def install(cache: Path) -> Path | None:
    """Put the locked packages under `cache` unless they are there; give its program; `None` without node or npm.

    Raises:
        RuntimeError: npm could not; the message holds its last lines.
    """
    if not (shutil.which("node") and shutil.which("npm")):
        return None
    folder = cache / "bench-portkey"
    program = folder / "node_modules/@portkey-ai/gateway/build/start-server.js"
    installed = folder / "installed.json"
    wanted = (PINS / "package-lock.json").read_text()
    if not (program.exists() and installed.exists() and installed.read_text() == wanted):
        print(f"installing Portkey's gateway {VERSION} with npm (some seconds, once)")
        folder.mkdir(parents=True, exist_ok=True)
        for name in _PINNED:
            shutil.copyfile(PINS / name, folder / name)
        succeeded, printed = run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
        if not succeeded:
            tail = "\n".join(printed.splitlines()[-5:])
            raise RuntimeError(
                f"Portkey's gateway cannot be installed; leave it out with --without portkey. npm says:\n{tail}"
            )
        installed.write_text(wanted)
    return program


def command(program: Path, port: int) -> list[str]:
    """Give the command that starts it, without its console."""
    return [shutil.which("node") or "node", str(program), "--headless", f"--port={port}"]


def headers(upstream_port: int, provider: str) -> Mapping[str, str]:
    """Say where a request goes: Portkey's open gateway has no catalog, each request names its provider.

    127.0.0.1 is one of the hosts it trusts without being told (`TRUSTED_CUSTOM_HOSTS`).
    """
    return {
        "x-portkey-provider": provider,
        "x-portkey-custom-host": f"http://127.0.0.1:{upstream_port}/v1",
    }
