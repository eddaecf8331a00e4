"""The commands `llmgateway keys` and `llmgateway audit`: on the database directly; a server that runs sees it at once.

Secrets are printed once, where they are made, and nowhere else.
"""

import argparse
import math
import re
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, get_args

import anyio
from anyio import to_thread
from msgspec import structs

from llmgateway.caller import Budget, Period
from llmgateway.catalog.model import Strategy
from llmgateway.ids import new_id
from llmgateway.keys.hashing import hash_of, is_ours, new_key, prefix_of
from llmgateway.storage.address import Address, locate
from llmgateway.storage.admin.admin import AdminStorage
from llmgateway.storage.admin.outcomes import OvertakenError
from llmgateway.storage.admin.rows import Deed, KeyRow
from llmgateway.storage.admin.sealing import SealError, key_file, new_encryption_key, rotate
from llmgateway.storage.migrations.revisions import DatabaseNewerError
from llmgateway.storage.storage import Storage, StorageAwayError
from llmgateway.telemetry.logs import LineSink, build_logger

_WRONG_USE = 2  # as argparse's own
_ACTOR = "cli"
_OPEN_LIMIT_S = 10.0
_PAGE_SIZE = 200
_DURATION = re.compile(r"(\d{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_HEADINGS = ("ID", "PREFIX", "NAME", "ORGANIZATION", "MODELS", "TIER", "BUDGET", "EXPIRES", "LAST USED", "STATE")

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the keys are.

    Args:
        encryption_keys: Of the providers' keys; without, a file in `data_dir` has them.
    """

    database_url: str | None
    data_dir: Path
    encryption_keys: Sequence[str] = ()


class _Fault(Exception):  # noqa: N818  an end of the command, not of the program
    """What the command was asked for cannot be: the message says why."""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Describe the commands and their options."""
    keys = commands.add_parser("keys", help="make, list, rotate and revoke clients' keys")
    its = keys.add_subparsers(dest="deed", required=True, metavar="deed")
    create = its.add_parser("create", help="make a key and print it, this once")
    create.add_argument("--name", required=True, help="by which people know whose it is")
    create.add_argument("--organization", metavar="ID", help="to which it belongs")
    create.add_argument("--models", nargs="+", metavar="GLOB", help="that it may use; without: all")
    create.add_argument("--tier", help="of the catalog, whose limits hold for it")
    create.add_argument(
        "--strategy",
        choices=get_args(Strategy),
        help="of its calls among a model's deployments; without: the catalog's",
    )
    create.add_argument("--budget-usd", type=_usd, metavar="USD", help="the most it may spend in a period")
    create.add_argument("--period", choices=get_args(Period), help="of the budget; without: month")
    create.add_argument("--expires", type=_moment, metavar="WHEN", help="a date such as 2027-01-01, or in such as 30d")
    listing = its.add_parser("list", help="print all keys, without what is secret")
    listing.add_argument("--organization", metavar="ID", help="only of this one")
    revoke = its.add_parser("revoke", help="remove a key for good")
    revoke.add_argument("key", metavar="ID_OR_PREFIX")
    rotation = its.add_parser("rotate", help="give a key another secret and print it, this once")
    rotation.add_argument("key", metavar="ID_OR_PREFIX")
    rotation.add_argument("--overlap", type=_span, default=timedelta(), help="how long the old one still holds: 1h")
    its.add_parser("rotate-encryption", help="encrypt the providers' keys anew, with the first encryption key")
    its.add_parser("new-encryption-key", help="print a new key for LLMGATEWAY_ENCRYPTION_KEYS")
    audit = commands.add_parser("audit", help="read the audit log")
    audit.add_subparsers(dest="deed", required=True, metavar="deed").add_parser(
        "verify", help="check that no row was changed or removed"
    )


def run(options: argparse.Namespace, place: Place) -> int:
    """Run one of the commands; returns the process's exit code."""
    if options.deed == "new-encryption-key":
        _say(new_encryption_key())
        return 0
    try:
        address = locate(place.database_url, place.data_dir)
        _migrate(address)
        return anyio.run(_DEEDS[options.deed], options, place)
    except (_Fault, ValueError) as error:
        _say(f"fault: {error}", error=True)
        return _WRONG_USE
    except (DatabaseNewerError, StorageAwayError, OvertakenError) as error:
        _say(f"llmgateway: not done: {error}", error=True)
        return 1


def _migrate(address: Address) -> None:
    from llmgateway.storage.migrations.upgrade import upgrade  # noqa: PLC0415  half a second of imports

    upgrade(address)


async def _ask(place: Place, question: Callable[[AdminStorage], Awaitable[Answer]]) -> Answer:
    sink = LineSink(sys.stderr.buffer)
    storage = Storage(
        place.database_url, place.data_dir, logger=build_logger(sink, level="error", log_format="console")
    )
    try:
        with anyio.move_on_after(_OPEN_LIMIT_S):
            await storage.open()
        return await question(AdminStorage(storage))
    finally:
        await storage.close()
        sink.close()


async def _create(options: argparse.Namespace, place: Place) -> int:
    if options.period is not None and options.budget_usd is None:
        raise _Fault("--period is that of a budget: add --budget-usd")
    budget = None if options.budget_usd is None else Budget(options.budget_usd, options.period or "month")
    secret = new_key()
    row = KeyRow(
        id=new_id("key"),
        name=options.name,
        hash=hash_of(secret),
        prefix=prefix_of(secret),
        created_at=datetime.now(UTC),
        organization_id=options.organization,
        models=None if options.models is None else tuple(options.models),
        tier=options.tier,
        strategy=options.strategy,
        budget=budget,
        expires_at=options.expires,
    )

    async def create(storage: AdminStorage) -> bool:
        await storage.add_key(row, _deed("key.create", row, _shown(row)))
        return row.organization_id is None or await storage.organization(row.organization_id) is not None

    if not await _ask(place, create):
        _say(
            f"note: there is no organization {_printable(row.organization_id or '')} yet: it has no limits", error=True
        )
    _tell_once(row.id, secret)
    return 0


async def _list(options: argparse.Namespace, place: Place) -> int:
    rows = await _ask(place, lambda storage: _all(storage, organization_id=options.organization))
    now = datetime.now(UTC)
    _print_table([_HEADINGS, *(_line(row, now) for row in rows)])
    return 0


async def _revoke(options: argparse.Namespace, place: Place) -> int:
    async def revoke(storage: AdminStorage) -> KeyRow:
        row = await _the_key(storage, options.key)
        if not await storage.remove_key(row.id, _deed("key.revoke", row, {"name": row.name, "prefix": row.prefix})):
            raise _Fault(f"There is no key {row.id} any more")
        return row

    row = await _ask(place, revoke)
    _say(f"revoked: {row.id} ({_printable(row.name)})")
    return 0


async def _rotate(options: argparse.Namespace, place: Place) -> int:
    secret = new_key()

    async def replace(storage: AdminStorage) -> KeyRow:
        row = await _the_key(storage, options.key)
        now = datetime.now(UTC)
        anew = structs.replace(
            row,
            hash=hash_of(secret),
            prefix=prefix_of(secret),
            previous_hash=row.hash if options.overlap else None,
            previous_until=now + options.overlap if options.overlap else None,
        )
        details = {"overlap_seconds": options.overlap.total_seconds(), "prefix": anew.prefix}
        if not await storage.replace_key(anew, _deed("key.rotate", row, details), instead_of=row):
            raise _Fault(f"There is no key {row.id} any more")
        return anew

    row = await _ask(place, replace)
    _tell_once(row.id, secret)
    return 0


async def _rotate_encryption(_: argparse.Namespace, place: Place) -> int:
    if locate(place.database_url, place.data_dir).path is None and not place.encryption_keys:
        raise _Fault("LLMGATEWAY_ENCRYPTION_KEYS is not set: with PostgreSQL, a file on one machine is no key for all")
    sink = LineSink(sys.stderr.buffer)
    logger = build_logger(sink, level="warning", log_format="console")
    try:
        seal = await to_thread.run_sync(key_file, place.data_dir, place.encryption_keys, logger)
    except SealError as error:
        raise _Fault(f"LLMGATEWAY_ENCRYPTION_KEYS: {error}") from error
    finally:
        sink.close()
    resealed = await _ask(place, lambda storage: rotate(storage, seal, actor=_ACTOR))
    _say(f"encrypted anew: {resealed.done}")
    for name in resealed.failed:
        _say(f"provider {_printable(name)}: its key was encrypted with another key, and is as it was", error=True)
    return 1 if resealed.failed else 0


async def _verify(_: argparse.Namespace, place: Place) -> int:
    verdict = await _ask(place, AdminStorage.verify)
    if verdict.ok:
        _say(f"audit: {verdict.rows} rows, all as they were written")
        return 0
    _say(f"audit: row {verdict.first_bad_seq}: {verdict.reason}")
    return 1


# By the second word of the command.
_DEEDS = {
    "create": _create,
    "list": _list,
    "revoke": _revoke,
    "rotate": _rotate,
    "rotate-encryption": _rotate_encryption,
    "verify": _verify,
}


async def _all(storage: AdminStorage, **wanted: str | None) -> list[KeyRow]:
    rows: list[KeyRow] = []
    number = 1
    while some := (await storage.keys(page=number, page_size=_PAGE_SIZE, **wanted)).rows:
        rows += some
        number += 1
    return rows


async def _the_key(storage: AdminStorage, named: str) -> KeyRow:
    found = await storage.key(named)
    if found is None and is_ours(named.encode()):
        both = await storage.key_by_hash(hash_of(named))
        found = None if both is None else both[0]
    if found is not None:
        return found
    # Of one that is not there, no more than everybody may see is said again.
    shown = prefix_of(named) if named.startswith("lgw_") else named
    fitting = await _all(storage, prefix=named)
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise _Fault(f"There is no key {shown!r}: `llmgateway keys list` shows ids and prefixes")
    ids = ", ".join(row.id for row in fitting)
    raise _Fault(f"Several keys begin with {shown!r}: give the id of one of {ids}")


def _deed(action: str, row: KeyRow, details: dict[str, Any]) -> Deed:
    return Deed(actor=_ACTOR, action=action, subject=row.id, organization_id=row.organization_id, details=details)


def _shown(row: KeyRow) -> dict[str, Any]:
    """Say what a key may, for the audit log."""
    named = ("name", "prefix", "models", "tier", "strategy", "budget", "expires_at")
    return {name: value for name in named if (value := getattr(row, name)) is not None}


def _tell_once(key_id: str, secret: str) -> None:
    _say(f"key: {secret}")
    _say(f"id: {key_id}")
    _say("The key is shown this once: only its hash is kept.", error=True)


def _line(row: KeyRow, now: datetime) -> Sequence[str]:
    budget = "" if row.budget is None else f"${row.budget.usd:g} / {row.budget.period}"
    over = row.expires_at is not None and row.expires_at <= now
    return (
        row.id,
        row.prefix,
        _printable(row.name),
        _printable(row.organization_id or ""),
        "*" if row.models is None else _printable(" ".join(row.models)),
        _printable(row.tier or ""),
        budget,
        _date(row.expires_at),
        _date(row.last_used_at),
        "disabled" if row.disabled else "expired" if over else "in force",
    )


def _date(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")


def _printable(text: str) -> str:
    """Keep what others named from doing anything to the terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _print_table(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        _say("  ".join(map(str.ljust, line, widths)).rstrip())


def _say(line: str, *, error: bool = False) -> None:
    print(line, file=sys.stderr if error else sys.stdout)


def _usd(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no amount: a number of US dollars above 0")
    return value


def _span(text: str) -> timedelta:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: a number and s, m, h, d or w, such as 30d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _moment(text: str) -> datetime:
    """Read a date, at its beginning in UTC, or a time from now."""
    now = datetime.now(UTC)
    try:
        moment = now + _span(text) if _DURATION.fullmatch(text) else datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no date such as 2027-01-01, and no time such as 30d") from error
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    if moment <= now:
        raise argparse.ArgumentTypeError(f"{text!r} is over already")
    return moment.astimezone(UTC)
