"""Migrates in a process of its own, whose end gives back the memory that SQLAlchemy and Alembic take (34 MB)."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import msgspec
from anyio import to_thread
from anyio.abc import ByteReceiveStream, Process

from llmgateway.storage.address import Address
from llmgateway.storage.migrations.revisions import DatabaseNewerError
from llmgateway.storage.queries import StorageAwayError

# The same modules as here, found at the same places; not in the folder where the child happens to start.
_PROGRAM = "import sys; sys.path[:] = {path!r}; from llmgateway.storage.migrations.apart import main; main()"
_ERRORS: dict[str, type[Exception]] = {error.__name__: error for error in (DatabaseNewerError, StorageAwayError)}


class _Place(msgspec.Struct):
    path: str | None
    dsn: str | None


class _Answer(msgspec.Struct):
    error: str | None = None
    text: str = ""


async def upgrade_apart(address: Address) -> None:
    """Migrate to `HEAD` beside the event loop; nothing of it is left when this is cancelled.

    Raises:
        DatabaseNewerError: There is no way back.
        StorageAwayError: The database cannot be asked now, or its tables could not be changed.
    """
    if "alembic.command" in sys.modules:
        # A child would save nothing here.
        await _upgrade_here(address)
        return
    try:
        child = await _run(address)
    except OSError:
        # No process may be started here: then this one pays.
        await _upgrade_here(address)
        return
    _judge(child)


async def _run(address: Address) -> "subprocess.CompletedProcess[bytes]":
    place = _Place(None if address.path is None else str(address.path), address.dsn)
    # The address may hold a password: everybody can read a command line.
    reading, writing = os.pipe()
    try:
        with open(writing, "wb") as told:  # noqa: ASYNC230, PTH123  a pipe that has room for it
            told.write(msgspec.json.encode(place))
        command = [sys.executable, "-P", "-c", _PROGRAM.format(path=sys.path)]
        # Cancelled while it starts, it would be killed, and nobody would wait until it is dead.
        with anyio.CancelScope(shield=True):
            # A session of its own: what ends the server by keyboard ends this only once the server says so.
            child = await anyio.open_process(command, stdin=reading, start_new_session=True)
    finally:
        os.close(reading)
    async with child:
        return await _ended(child)


async def _ended(child: Process) -> "subprocess.CompletedProcess[bytes]":
    said = {name: bytearray() for name in ("stdout", "stderr")}

    async def hear(name: str) -> None:
        stream: ByteReceiveStream = getattr(child, name)
        async for piece in stream:
            said[name] += piece

    async with anyio.create_task_group() as group:
        for name in said:
            group.start_soon(hear, name)
    code = await child.wait()
    return subprocess.CompletedProcess((), code, bytes(said["stdout"]), bytes(said["stderr"]))


async def _upgrade_here(address: Address) -> None:
    await to_thread.run_sync(_upgrade, address, abandon_on_cancel=True)


def _upgrade(address: Address) -> None:
    from llmgateway.storage.migrations.upgrade import upgrade  # noqa: PLC0415  what all this is about

    upgrade(address)


def _judge(child: "subprocess.CompletedProcess[bytes]") -> None:
    said = child.stdout.splitlines()
    if child.returncode == 0 and said:
        answer = msgspec.json.decode(said[-1], type=_Answer)
        if answer.error is not None:
            raise _ERRORS[answer.error](answer.text)
        return
    last = child.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    raise StorageAwayError(f"Changing the database's tables broke off ({child.returncode}): {last[:300]}")


def main() -> None:
    """Migrate the database that standard input names, and write how that went to standard output."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # Sent to all processes of a service at once; whoever started this one ends it.
        signal.signal(number, signal.SIG_IGN)
    place = msgspec.json.decode(sys.stdin.buffer.read(), type=_Place)
    answer = _Answer()
    try:
        _upgrade(Address(None if place.path is None else Path(place.path), place.dsn))
    except tuple(_ERRORS.values()) as error:
        kind = next(name for name, its in _ERRORS.items() if isinstance(error, its))
        answer = _Answer(kind, str(error))
    sys.stdout.write(f"\n{msgspec.json.encode(answer).decode()}\n")
