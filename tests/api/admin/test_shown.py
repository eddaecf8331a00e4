import json
from datetime import UTC, datetime, timedelta, timezone

import pytest

from llmgateway.api.admin.shown import (
    Spent,
    address_shown,
    budget_shown,
    json_answer,
    key_shown,
    limits_shown,
    listed,
    moment,
    removed,
)
from llmgateway.caller import Budget
from llmgateway.catalog.model import Limits
from llmgateway.storage.admin.rows import KeyRow, Page

NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def test_a_key_has_every_field_of_the_contract_and_never_its_hash() -> None:
    row = KeyRow(id="key_1", name="x", hash="h" * 64, prefix="lgw_abcdefgh", created_at=NOW, previous_hash="p" * 64)

    shown = key_shown(row)

    assert set(shown) == {
        *("id", "name", "prefix", "organization_id", "models", "tier", "limits", "budget", "expires_at", "disabled"),
        *("strategy", "created_at", "last_used_at", "metadata"),
    }
    assert "hhhh" not in str(shown)
    assert "pppp" not in str(shown)


def test_moments_are_told_in_utc() -> None:
    assert moment(NOW.astimezone(timezone(timedelta(hours=2)))) == "2026-11-21T09:30:00.000Z"
    assert moment(None) is None


def test_a_budget_stands_as_it_is_known() -> None:
    assert budget_shown(None, Spent()) is None
    assert budget_shown(Budget(5, "day", 4), Spent(1.5, NOW)) == {
        "usd": 5,
        "period": "day",
        "soft_usd": 4,
        "spent_usd": 1.5,
        "resets_at": "2026-11-21T09:30:00.000Z",
    }


def test_limits_have_all_their_kinds() -> None:
    shown = limits_shown(Limits(burst=3))

    assert shown is not None
    assert (len(shown), shown["burst"], shown["concurrent"]) == (7, 3, None)
    assert limits_shown(None) is None


@pytest.mark.parametrize(("total", "pages"), [(0, 0), (1, 1), (10, 1), (11, 2)])
def test_a_list_says_how_many_pages_it_has(total: int, pages: int) -> None:
    answer = json.loads(bytes(listed([{"a": 1}], Page(rows=(), total=total), 1, 10).body))

    assert answer == {"items": [{"a": 1}], "total": total, "page": 1, "page_size": 10, "total_pages": pages}


def test_nobody_keeps_an_answer() -> None:
    assert json_answer({}).headers["cache-control"] == removed("x").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (None, None),
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://user:secret@host:8/v1", "https://host:8/v1"),
        ("https://a@b:secret@host/v1", "https://host/v1"),
        ("https://host/v1/@me", "https://host/v1/@me"),
    ],
)
def test_an_address_is_shown_without_a_login(address: str | None, shown: str | None) -> None:
    assert address_shown(address) == shown
