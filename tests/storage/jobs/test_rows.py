import subprocess
import sys

import msgspec
import pytest

from llmgateway.storage.jobs.rows import ENDED, LIVE, JobFault, Origin, Status, Step
from tests.storage.jobs.given import done, order


def test_a_job_either_lives_or_has_ended() -> None:
    statuses = set(Status.__args__)  # type: ignore[attr-defined]

    assert statuses == LIVE | ENDED
    assert not LIVE & ENDED


def test_what_is_known_of_a_job_cannot_be_changed_by_whoever_read_it() -> None:
    with pytest.raises(AttributeError):
        order().priority = 0  # type: ignore[misc]
    with pytest.raises(AttributeError):
        done("a").output = ""  # type: ignore[misc]


def test_where_a_job_comes_from_is_read_back_from_json() -> None:
    origin = order(idempotency_key="/run a", trace="00-1-2-01").origin

    assert msgspec.json.decode(msgspec.json.encode(origin), type=Origin) == origin
    assert Step(fault=JobFault("a", "b")).status is None


def test_rows_need_no_database_library() -> None:
    program = "import sys; import llmgateway.storage.jobs.jobs, llmgateway.storage.documents.rows; "
    program += "print({'sqlalchemy', 'alembic', 'aiosqlite', 'asyncpg'} & {*sys.modules})"

    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603  ours

    assert told.stdout == "set()\n"
