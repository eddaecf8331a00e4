"""Databases that have all tables, to be copied: a test would take longer to make its own."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from llmgateway.storage.address import Address


def lay_out(path: Path) -> None:
    """Put an SQLite database there that has its tables and no rows of ours, unless one is there."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.exists():
        path.touch(mode=0o600)
        path.write_bytes(_sqlite())


def make_tables(address: Address) -> None:
    """Bring a database to the newest revision; also where an event loop runs, for it runs one of its own."""
    from llmgateway.storage.migrations.upgrade import upgrade  # noqa: PLC0415  one test looks at what is not imported

    with ThreadPoolExecutor(1) as thread:
        thread.submit(upgrade, address).result()


@cache
def _sqlite() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "llmgateway.db"
        make_tables(Address(path=path))
        return path.read_bytes()
