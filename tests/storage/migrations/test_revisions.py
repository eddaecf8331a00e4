import pytest

from llmgateway.storage.migrations.revisions import HEAD, REVISIONS, DatabaseNewerError, known


def test_known_revisions_pass_and_others_do_not() -> None:
    assert [known(one) for one in (None, *REVISIONS)] == [None, *REVISIONS]
    assert REVISIONS[-1] == HEAD
    with pytest.raises(DatabaseNewerError, match="at revision 9999"):
        known("9999")
