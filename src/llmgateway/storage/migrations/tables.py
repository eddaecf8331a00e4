"""The tables as this version of the program knows them; the migrations make them so."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, Index, MetaData, SmallInteger, String, Table, text
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

COLUMNS = LedgerEntry.__struct_fields__
