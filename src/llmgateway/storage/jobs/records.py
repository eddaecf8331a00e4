"""How jobs are kept in their columns: texts as every database takes them, structures as JSON, times as microseconds."""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec
from msgspec import structs
from sqlalchemy import Column

from llmgateway.storage.admin.chain import at_us, moment_of
from llmgateway.storage.admin.records import field_of
from llmgateway.storage.jobs.rows import JobFault, JobRow, NewJob, Origin, PassRow, Progress, Records, Totals
from llmgateway.storage.migrations.document_tables import job_passes, jobs
from llmgateway.storage.migrations.tables import LONGEST

PREVIEW_CHARS = 500

_NOT_KEPT = re.compile("[\0\ud800-\udfff]")
_READERS: Mapping[str, msgspec.json.Decoder[Any]] = {
    "origin": msgspec.json.Decoder(Origin),
    "records": msgspec.json.Decoder(Records),
    "progress": msgspec.json.Decoder(Progress),
    "totals": msgspec.json.Decoder(Totals),
    "warnings": msgspec.json.Decoder(tuple[str, ...]),
    "fault": msgspec.json.Decoder(JobFault),
    "metadata": msgspec.json.Decoder(dict[str, Any]),
}
# What a list shows of a job: neither its document nor its result.
JOB_COLUMNS: Sequence[Column[Any]] = [column for column in jobs.c if field_of(column) in JobRow.__struct_fields__]
PASS_COLUMNS: Sequence[Column[Any]] = list(job_passes.c)[1:]
_FIELDS = list(map(field_of, JOB_COLUMNS))


def kept_text(text: str) -> str:
    """Make a text that both databases keep, as long as it was: models write NUL and half a character at times."""
    try:
        text.encode()
    except UnicodeEncodeError:
        pass
    else:
        if "\0" not in text:
            return text
    return _NOT_KEPT.sub("\N{REPLACEMENT CHARACTER}", text)


def to_json(value: Any) -> str:
    """Write a structure down, its texts like all that is kept."""
    try:
        written = msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        pass
    else:
        if "\\u0000" not in written:
            return written
    return msgspec.json.encode(_kept(msgspec.to_builtins(value))).decode()


def _kept(value: Any) -> Any:
    match value:
        case str():
            return kept_text(value)
        case dict():
            return {kept_text(str(key)): _kept(one) for key, one in value.items()}
        case list() | tuple():
            return [_kept(one) for one in value]
    return value


def digest_of(origin: Origin, key: str | None) -> str | None:
    """Make of what two orders have in common something short: clients choose how long it is."""
    if key is None:
        return None
    return sha256(f"{origin.scope}\0{key}".encode("utf-8", "surrogatepass")).hexdigest()


def values_of_job(new: NewJob) -> dict[str, Any]:
    """Make the columns' values of a job that waits, with its first event to come.

    Raises:
        ValueError: The organization's name is too long.
    """
    organization = kept_text(new.organization_id or "")
    if len(organization) > LONGEST:
        raise ValueError(f"organization_id: {len(organization)} characters, {LONGEST} at most")
    caller = structs.replace(new.origin.caller, provider_key=None)
    return {
        "id": new.id,
        "service_id": new.service_id,
        "service_name": new.service_name,
        "service_route": new.service_route,
        "flavor_id": new.flavor_id,
        "flavor_name": new.flavor_name,
        "organization_id": organization,
        "status": "queued",
        "priority": new.priority,
        "key_id": caller.key_id,
        "origin": to_json(structs.replace(new.origin, caller=caller)),
        "created_at_us": at_us(new.created_at),
        "preview": kept_text(new.text[:PREVIEW_CHARS]),
        "input_chars": len(new.text),
        "input_tokens": new.input_tokens,
        "input_file_name": None if new.input_file_name is None else kept_text(new.input_file_name),
        "records": to_json(new.records),
        "progress": to_json(new.progress),
        "totals": to_json(Totals()),
        "warnings": "[]",
        "current_version": 0,
        "metadata": to_json(dict(new.metadata)),
        "webhook_url": None if new.webhook_url is None else kept_text(new.webhook_url),
        "ttl_s": new.ttl_s,
        "events": 0,
        "kills": 0,
        "repeats": digest_of(new.origin, new.origin.idempotency_key),
        "joins": digest_of(new.origin, new.origin.joins),
        "lease_fence": 0,
        "hook_tries": 0,
    }


def job_from(values: Sequence[Any], result: str | None = None, partial: str = "") -> JobRow:
    """Read a job back from the values of `JOB_COLUMNS`."""
    fields = {
        name: _read(name, column, value) for name, column, value in zip(_FIELDS, JOB_COLUMNS, values, strict=True)
    }
    fields["organization_id"] = fields["organization_id"] or None
    return JobRow(**fields, result=result, partial=partial)


def _read(name: str, column: Column[Any], value: Any) -> Any:
    if value is None:
        return None
    if name in _READERS:
        return _READERS[name].decode(value)
    return moment_of(value) if column.name.endswith("_us") else value


def values_of_pass(job_id: str, done: PassRow) -> dict[str, Any]:
    """Make the columns' values of a pass."""
    fields = structs.asdict(done)
    return {"job_id": job_id, **{column.name: _plain(fields[field_of(column)], column) for column in PASS_COLUMNS}}


def _plain(value: Any, column: Column[Any]) -> Any:
    if column.name.endswith("_us"):
        return at_us(value)
    return kept_text(value) if isinstance(value, str) else value


def pass_from(values: Sequence[Any]) -> PassRow:
    """Read a pass back from the values of `PASS_COLUMNS`."""
    pairs = zip(PASS_COLUMNS, values, strict=True)
    return PassRow(**{field_of(column): _read("", column, value) for column, value in pairs})
