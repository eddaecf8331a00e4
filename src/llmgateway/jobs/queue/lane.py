"""One thread that does one thing after another: a broker's client blocks, and keeps its connection by thread."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

Result = TypeVar("Result")


class Lane:
    """Starts its thread when it is needed. A daemon: a broker that hangs does not keep the process alive."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._deeds: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, deed: Callable[[], Result]) -> Future[Result]:
        """Have something done after all that was submitted before; cancelled before its turn, it is left out."""
        future: Future[Result] = Future()
        self._deeds.put(lambda: _do(deed, future))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        return future

    def end(self) -> None:
        """Let the thread end after all that was submitted."""
        self._deeds.put(None)

    def _run(self) -> None:
        while (deed := self._deeds.get()) is not None:
            deed()


def _do(deed: Callable[[], Result], future: Future[Result]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(deed())
    except BaseException as error:  # noqa: BLE001  whoever waits for it gets it
        future.set_exception(error)
