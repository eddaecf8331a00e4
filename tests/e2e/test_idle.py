"""What a gateway that nobody asks has not imported: its memory and its start depend on it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = [
    "dramatiq",
    "pika",
    "redis",
    "icu4py",
    "websockets",
    "sqlalchemy",
    "alembic",
    "aiosqlite",
    "asyncpg",
    "prometheus_client",
    "opentelemetry.sdk",
    "grpc",
    "litellm",
]
PROGRAM = f"""
import anyio, json, sys
from pathlib import Path
import httpx2
from tests.running import running

async def main():
    async with running(folder := Path(sys.argv[1]), data_dir=folder / "own") as served:
        with anyio.fail_after(45):
            while (ready := await served.client.get("/health/ready")).status_code != 200:
                await anyio.sleep(0.01)
        await anyio.sleep(0.1)
        print(json.dumps([ready.status_code, [name for name in {HEAVY!r} if name in sys.modules]]))

anyio.run(main)
"""


@pytest.mark.timeout(120)
def test_gateway_that_nobody_asked_has_imported_nothing_heavy(tmp_path: Path) -> None:
    """At its first start, which makes the tables, and at the second."""
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    root = Path(__file__).resolve().parents[2]

    said = [
        subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout  # noqa: S603
        for _ in range(2)
    ]

    assert [json.loads(line) for each in said for line in each.splitlines()] == [[200, []], [200, []]]
