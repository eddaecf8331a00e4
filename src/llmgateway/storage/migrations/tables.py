"""The tables as this version of the program knows them; the migrations make them so."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.types import TypeEngine

from llmgateway.storage.entry import LedgerEntry

LONGEST = 256  # characters of a text column

metadata = MetaData()


def _text(name: str) -> Column[str | None]:
    return Column(name, String(LONGEST))


def _number(name: str, kind: type[TypeEngine[int]] | type[TypeEngine[float]] = BigInteger) -> Column[int | float]:
    return Column(name, kind)


def _given(column: Column[str | None]) -> Column[str | None]:
    column.nullable = False
    return column


# In the order of `LedgerEntry`'s fields: an entry is one row as it is.
ledger = Table(
    "ledger",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    _given(_text("operation")),
    _given(_text("requested_model")),
    Column("status", SmallInteger, nullable=False),
    Column("duration_ms", Double, nullable=False),
    Column("overhead_ms", Double, nullable=False),
    _text("client_id"),
    _text("organization_id"),
    _text("key_id"),
    _text("user_label"),
    _given(_text("model")),
    _text("upstream_model"),
    _text("response_model"),
    _text("provider"),
    _text("deployment"),
    Column("stream", Boolean, nullable=False),
    _text("error_code"),
    _number("prompt_tokens"),
    _number("completion_tokens"),
    _number("cached_tokens"),
    _number("cache_write_tokens"),
    _number("reasoning_tokens"),
    _number("audio_tokens"),
    _number("image_tokens"),
    Column("estimated", Boolean, nullable=False),
    _number("cost_nusd"),
    _number("ttft_ms", Double),
    Column("upstream_ms", Double, nullable=False),
    Column("attempts", JSON, nullable=False),
    _given(_text("cache")),
    _text("route_reason"),
    _text("trace_id"),
)
Index("ledger_at_us", ledger.c.at_us)
# Where nobody names organizations, it costs nothing.
_ORGANIZATION_GIVEN = text("organization_id IS NOT NULL")
Index(
    "ledger_organization_at_us",
    ledger.c.organization_id,
    ledger.c.at_us,
    sqlite_where=_ORGANIZATION_GIVEN,
    postgresql_where=_ORGANIZATION_GIVEN,
)
# A client may send one X-Request-ID a million times: the newest must be found without looking at all.
_CLIENT_GIVEN = text("client_id IS NOT NULL")
Index(
    "ledger_client_id_at_us",
    ledger.c.client_id,
    ledger.c.at_us,
    sqlite_where=_CLIENT_GIVEN,
    postgresql_where=_CLIENT_GIVEN,
)

# What a key spent is summed when a counter of it is lost.
_KEY_GIVEN = text("key_id IS NOT NULL")
Index("ledger_key_at_us", ledger.c.key_id, ledger.c.at_us, sqlite_where=_KEY_GIVEN, postgresql_where=_KEY_GIVEN)

COLUMNS = LedgerEntry.__struct_fields__


def _time(name: str, *, given: bool = False) -> Column[int]:
    """Make a column of microseconds since 1970; it has the name of the row's field, and its unit."""
    return Column(f"{name}_us", BigInteger, nullable=not given)


def _structure(name: str, *, given: bool = False) -> Column[Any]:
    return Column(name, JSON(none_as_null=True), nullable=not given)


# Columns of the four tables that follow are the fields of their rows in `storage/admin/rows.py`.
keys = Table(
    "keys",
    metadata,
    Column("id", String(LONGEST), primary_key=True),
    _given(_text("name")),
    Column("hash", String(64), nullable=False),
    _given(_text("prefix")),
    _time("created_at", given=True),
    _text("organization_id"),
    _structure("models"),
    _text("tier"),
    _structure("limits"),
    _structure("budget"),
    _time("expires_at"),
    Column("disabled", Boolean, nullable=False),
    _time("last_used_at"),
    _structure("metadata", given=True),
    Column("previous_hash", String(64)),
    _time("previous_until"),
    _text("strategy"),
)
Index("keys_hash", keys.c.hash, unique=True)
Index("keys_previous_hash", keys.c.previous_hash)
Index("keys_organization_id", keys.c.organization_id)

organizations = Table(
    "organizations",
    metadata,
    Column("id", String(LONGEST), primary_key=True),
    _given(_text("name")),
    _time("created_at", given=True),
    _structure("limits"),
    _structure("budget"),
    _structure("metadata", given=True),
)
Index("organizations_name", organizations.c.name, unique=True)

providers = Table(
    "providers",
    metadata,
    Column("name", String(LONGEST), primary_key=True),
    _structure("fields", given=True),
    _time("created_at", given=True),
    _time("updated_at", given=True),
    Column("sealed_key", Text),
)

deployments = Table(
    "deployments",
    metadata,
    Column("id", String(LONGEST), primary_key=True),
    _given(_text("model")),
    _structure("fields", given=True),
    _time("created_at", given=True),
    _time("updated_at", given=True),
)

# What the four tables went through lately, for processes that keep copies.
changes = Table(
    "changes",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", String(32), nullable=False),
    _given(_text("subject")),
)

# Triggers refuse to change or delete its rows.
audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at_us", BigInteger, nullable=False),
    _given(_text("actor")),
    _given(_text("action")),
    _given(_text("subject")),
    _text("organization_id"),
    _structure("details", given=True),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)
Index("audit_at_us", audit.c.at_us)

# One row: how far the two logs are. Whoever writes to them holds its lock until the commit, so that numbers
# grow in the order of the commits and have no gaps, which the sequences of a database do not promise.
heads = Table(
    "heads",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("change_seq", BigInteger, nullable=False),
    Column("audit_seq", BigInteger, nullable=False),
    Column("audit_hash", String(64), nullable=False),
)
