import subprocess
import sys

import pytest

from llmgateway.storage.admin.rows import Page
from tests.storage.admin.given import DEED, key_row


def test_a_row_cannot_be_changed_by_whoever_read_it() -> None:
    row = key_row()

    with pytest.raises(AttributeError):
        row.disabled = True  # type: ignore[misc]
    assert Page([row], 1).rows == [row]
    assert DEED.details == {"name": "app"}


def test_rows_need_no_database_library() -> None:
    program = "import sys; import llmgateway.storage.admin.admin, llmgateway.storage.admin.sealing, "
    program += "llmgateway.storage.admin.trail; print({'sqlalchemy', 'alembic', 'cryptography'} & {*sys.modules})"

    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)  # noqa: S603  ours

    assert told.stdout == "set()\n"
