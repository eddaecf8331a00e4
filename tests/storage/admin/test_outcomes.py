import pytest

from llmgateway.storage.admin.outcomes import ChangesGoneError, following
from llmgateway.storage.admin.rows import Change, ChangeKind

ROWS: list[tuple[int, ChangeKind, str]] = [(seq, "key", f"key_{seq}") for seq in range(1, 6)]


def test_changes_follow_on_the_one_that_the_reader_knows() -> None:
    assert following(3, ROWS[2:]) == [Change(4, "key", "key_4"), Change(5, "key", "key_5")]
    assert following(5, ROWS[4:]) == []
    assert following(0, ROWS) == [Change(*row) for row in ROWS]
    assert following(0, []) == []
    assert following(None, ROWS[4:]) == [Change(5, "key", "key_5")]
    assert following(None, []) == []


@pytest.mark.parametrize(("seq", "rows"), [(0, ROWS[1:]), (2, ROWS[2:]), (7, [])])
def test_reader_whose_place_is_gone_hears_of_it(seq: int, rows: list[tuple[int, ChangeKind, str]]) -> None:
    with pytest.raises(ChangesGoneError, match=f"after {seq}"):
        following(seq, rows)
