"""The figures of several worker processes as one.

Each process leaves a snapshot of its figures in a folder that all share; whichever is scraped adds the others' to its
own. A lock that the system takes back when a process ends, however it ends, tells the living from the dead. What the
dead have counted goes into one file and stays.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import msgspec

from llmgateway.telemetry.metrics.families import ACROSS
from llmgateway.telemetry.metrics.figures import Across, Figures

_LOCK, _FIGURES, _NEW = ".lock", ".metrics", ".new"


class _Ended(msgspec.Struct):
    """What processes that have ended counted, and which they were: their files are no longer read."""

    figures: Figures | None = None
    names: list[str] = []


_figures_decoder = msgspec.msgpack.Decoder(Figures)
_ended_decoder = msgspec.msgpack.Decoder(_Ended)
_encoder = msgspec.msgpack.Encoder()


class Shared:
    """This process's place in the folder. Every method waits for files: in a thread, one at a time.

    Args:
        folder: The same for all workers of one gateway, and for no other gateway.

    Raises:
        OSError: The folder cannot be made or written to.
    """

    def __init__(self, folder: Path, *, across: Mapping[str, Across] = ACROSS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._across = across
        self._name = f"{os.getpid()}-{uuid4().hex[:8]}"
        with self._alone():
            # Under the lock of all: between its making and its locking it looks like that of a dead process.
            self._alive = _locked(folder / (self._name + _LOCK))

    def write(self, figures: Figures) -> None:
        """Leave this process's figures for the others. Raises: OSError."""
        _replace(self._folder / (self._name + _FIGURES), _encoder.encode(figures))

    def total(self, own: Figures) -> Figures:
        """Add what all others counted to this process's figures. Raises: OSError."""
        with self._alone():
            living, dead = self._others()
            ended = self._fold(dead)
            total = Figures(own.started, workers=0)
            for figures in (own, ended, *(self._read(name) for name in living)):
                if figures is not None:
                    total.add(figures, self._across)
            total.workers = len(living) + 1
        return total

    def close(self) -> None:
        """Count as ended from now on; a second call does nothing."""
        if self._alive >= 0:
            os.close(self._alive)
            self._alive = -1

    @contextmanager
    def _alone(self) -> Iterator[None]:
        # Held for as long as a few files are read: nobody waits for it but another scrape.
        descriptor = _opened(self._folder / "all.lock")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _others(self) -> tuple[list[str], list[str]]:
        """Give the names of the other processes: those alive, and the dead whose files are still there."""
        living: list[str] = []
        dead: list[str] = []
        for path in self._folder.glob(f"*-*{_LOCK}"):
            if path.stem != self._name:
                (living if _is_locked(path) else dead).append(path.stem)
        return living, dead

    def _fold(self, dead: list[str]) -> Figures | None:
        path = self._folder / "ended"
        try:
            ended = _ended_decoder.decode(path.read_bytes())
        except (FileNotFoundError, msgspec.MsgspecError):
            ended = _Ended()
        for name in dead:
            if name not in ended.names:
                self._take(ended, name)
        if dead:
            # Written with their names before their files go: whoever dies in between counts nobody twice.
            ended.names = dead
            _replace(path, _encoder.encode(ended))
            for name in dead:
                (self._folder / (name + _FIGURES)).unlink(missing_ok=True)
                (self._folder / (name + _FIGURES + _NEW)).unlink(missing_ok=True)
                (self._folder / (name + _LOCK)).unlink(missing_ok=True)
        return ended.figures

    def _take(self, ended: _Ended, name: str) -> None:
        figures = self._read(name)
        if figures is None:
            return
        if ended.figures is None:
            ended.figures = Figures(figures.started, workers=0)
        ended.figures.add(figures.lasting(), self._across)

    def _read(self, name: str) -> Figures | None:
        try:
            return _figures_decoder.decode((self._folder / (name + _FIGURES)).read_bytes())
        except (FileNotFoundError, msgspec.MsgspecError):  # none yet, or of another version
            return None


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _locked(path: Path) -> int:
    descriptor = _opened(path)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor


def _is_locked(path: Path) -> bool:
    descriptor = _opened(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _replace(path: Path, content: bytes) -> None:
    new = path.with_suffix(path.suffix + _NEW)
    new.write_bytes(content)
    new.replace(path)
