"""Lua scripts that Redis keeps, known by their hash, and loaded again when Redis has forgotten them."""

import hashlib
from collections.abc import Sequence
from typing import Any

from llmgateway.stores.redis.connection import Command, CommandError, Connection, Told

# Errors of Redis that say nothing of the command: any other of ours would be refused likewise.
_AWAY = ("BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOAUTH", "NOPERM", "OOM", "READONLY", "WRONGPASS")


class Script:
    """A Lua script; called, it gives the command that runs it."""

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str | bytes], args: Sequence[bytes | str | int | float] = ()) -> Command:
        return ("EVALSHA", self.sha, len(keys), *keys, *args)


class Scripts:
    """All scripts of one Redis."""

    def __init__(self) -> None:
        self._by_sha: dict[str, Script] = {}

    def make(self, text: str) -> Script:
        """Make a script known; the same text is the same script."""
        script = Script(text)
        return self._by_sha.setdefault(script.sha, script)

    def loads(self) -> list[Command]:
        """Give the commands that load them all."""
        return [("SCRIPT", "LOAD", script.text) for script in self._by_sha.values()]

    def ask(self, connection: Connection, commands: Sequence[Command], told: Told) -> None:
        """Send commands; those whose script is forgotten are run once more, the others are not.

        A reply that says that Redis is of no use to us, such as one that forbids scripts, counts as no answer.
        """

        def answered(replies: list[Any] | None, fault: str | None) -> None:
            for reply in replies or ():
                if reply.__class__ is CommandError:
                    self._mend(connection, commands, replies or [], told)
                    return
            told(replies, fault)

        connection.ask(commands, answered)

    def _mend(self, connection: Connection, commands: Sequence[Command], replies: list[Any], told: Told) -> None:
        forgotten = [at for at, reply in enumerate(replies) if _says(reply, "NOSCRIPT")]
        if not forgotten:
            _tell(replies, told)
            return
        again = [commands[at] for at in forgotten]
        known = {str(command[1]) for command in again} & self._by_sha.keys()
        loads: list[Command] = [("SCRIPT", "LOAD", self._by_sha[sha].text) for sha in known]

        def answered(late: list[Any] | None, fault: str | None) -> None:
            if late is None:
                told(None, fault)
                return
            for at, reply in zip(forgotten, late[len(loads) :], strict=True):
                replies[at] = reply
            _tell(replies, told)

        connection.ask([*loads, *again], answered)


def _tell(replies: list[Any], told: Told) -> None:
    for reply in replies:
        if _says(reply, *_AWAY) or (reply.__class__ is CommandError and "unknown command" in str(reply)):
            told(None, f"Redis refuses: {str(reply)[:200]}")
            return
    told(replies, None)


def _says(reply: Any, *words: str) -> bool:
    return reply.__class__ is CommandError and str(reply).startswith(words)
