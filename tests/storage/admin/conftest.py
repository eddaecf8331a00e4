import pytest

from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.storage import Storage


@pytest.fixture
def admin(storage: Storage) -> AdminStorage:
    return AdminStorage(storage)
