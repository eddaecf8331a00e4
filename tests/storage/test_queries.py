import subprocess
import sys

import pytest

from llmgateway.storage.queries import StorageAwayError, TooManyGroupsError


@pytest.mark.parametrize("module", ["queries", "storage", "retention"])
def test_whoever_asks_needs_no_database_library(module: str) -> None:
    program = (
        f"import sys, llmgateway.storage.{module}; print({{'sqlalchemy', 'alembic', 'asyncpg'}} & set(sys.modules))"
    )

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout  # noqa: S603

    assert said == "set()\n"


def test_errors_say_who_can_do_something() -> None:
    assert issubclass(StorageAwayError, OSError), "readiness takes it for a part that is away"
    assert issubclass(TooManyGroupsError, ValueError), "the client asked for it"
