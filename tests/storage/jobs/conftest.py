import pytest

from llmgateway.storage.jobs.jobs import JobStorage
from llmgateway.storage.storage import Storage
from tests.storage.jobs.given import Told


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def jobs(storage: Storage, told: Told) -> JobStorage:
    return JobStorage(storage, told)
