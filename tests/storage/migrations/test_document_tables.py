from pathlib import Path

import pytest
from sqlalchemy import Connection, inspect, text

from llmgateway.storage.address import locate
from llmgateway.storage.database import open_engine
from llmgateway.storage.migrations.document_tables import jobs
from llmgateway.storage.storage import Storage

# How jobs are asked for often: no look at all of them.
QUESTIONS = {
    "SELECT 1 FROM jobs WHERE status = 'queued' LIMIT 1": "jobs_queued",
    "SELECT min(priority) FROM jobs WHERE status = 'queued'": "jobs_queued",
    "SELECT id FROM jobs WHERE lease_until_us < 5": "jobs_leased",
    "SELECT id FROM jobs WHERE hook_at_us <= 5": "jobs_hook_at",
    "SELECT id FROM jobs WHERE expires_at_us <= 5": "jobs_expires_at",
    "SELECT id FROM jobs WHERE repeats = 'x'": "jobs_repeats",
    "SELECT id FROM jobs WHERE joins = 'x'": "jobs_joins",
    "SELECT id FROM jobs WHERE organization_id = 'x' ORDER BY created_at_us DESC": "jobs_organization_created_at",
    "SELECT id FROM jobs ORDER BY created_at_us DESC LIMIT 5": "jobs_created_at",
    "SELECT id FROM jobs WHERE completed_at_us >= 5": "jobs_completed_at",
}


@pytest.mark.parametrize("question", QUESTIONS)
async def test_questions_that_are_asked_often_use_their_index(
    storage: Storage, url: str, tmp_path: Path, question: str
) -> None:
    if not url.startswith("sqlite"):
        return  # an empty table is read as a whole there, whatever its indexes
    assert storage.up
    database = open_engine(locate(url, tmp_path))
    try:
        plan = await database.rows(text(f"EXPLAIN QUERY PLAN {question}"))
    finally:
        await database.close()

    assert QUESTIONS[question] in str(plan)


async def test_rows_of_a_job_lead_to_it(storage: Storage, url: str, tmp_path: Path) -> None:
    def leading(connection: Connection) -> set[str]:
        names = [name for name in jobs.metadata.tables if inspect(connection).get_foreign_keys(name)]
        assert {str(inspect(connection).get_foreign_keys(name)[0]["options"]) for name in names} == {
            "{'ondelete': 'CASCADE'}"
        }
        return set(names)

    assert storage.up
    database = open_engine(locate(url, tmp_path))
    try:
        async with database.engine.connect() as connection:
            found = await connection.run_sync(leading)
    finally:
        await database.close()

    assert found == {"job_texts", "job_results", "job_passes", "job_events", "job_versions"}
