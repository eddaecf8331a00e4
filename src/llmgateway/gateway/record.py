"""Writes an exchange down: what must not be lost before its last byte is given away, all else right after."""

import asyncio
import time
from collections.abc import Callable, Sequence

from llmgateway.exchange import Exchange
from llmgateway.turn import Turn

Writer = Callable[[Exchange], None]


class Recorder:
    """Hands each exchange to every writer, once. None of them raises or waits.

    Args:
        first: The journal, which takes several in one write: a client that saw its answer's end finds it in the ledger.
        others: What tells how it ended, and so must see the end: metrics, log, trace.
        turn: By which our own server writes answers; those that go out by another one are not written down in turn.
        settles_apart: Give back what each call holds at once: to a shared store, in the round trip that keeps its
            answer. To do it for those of a turn together takes less of the processor.
    """

    def __init__(
        self,
        first: Callable[[Sequence[Exchange]], None],
        others: Sequence[Writer],
        turn: Turn | None = None,
        *,
        settles_apart: bool = False,
    ) -> None:
        self.turn = turn or Turn()
        self._settles_apart = settles_apart
        self._first = first
        self._others = tuple(others)
        # Those that end in this turn.
        self._unsecured: list[Exchange] = []
        self._unrecorded: list[Exchange] = []

    def secure(self, exchange: Exchange) -> None:
        """Write down what must not be lost; a second call does nothing."""
        if exchange.ended is None:
            exchange.ended = time.perf_counter()
            self._first((exchange,))

    def record(self, exchange: Exchange) -> None:
        """Write everything down; a second call does nothing."""
        if exchange.recorded:
            return
        faults: list[Exception] = []
        try:
            if self._unsecured:  # it may be one of them
                self._secure_together()
            self.secure(exchange)
            exchange.ended = time.perf_counter()
        except Exception as fault:  # noqa: BLE001  raised below: the others are not to go without
            faults.append(fault)
        exchange.recorded = True
        _raise([*faults, *self._tell((exchange,)), *_settle(exchange)])

    def secure_in_turn(self, exchange: Exchange) -> None:
        """Do as `secure`, with others and at the latest before what is put off from now on."""
        if exchange.ended is None:
            exchange.ended = time.perf_counter()
            if not self._unsecured:
                self.turn.before(self._secure_together, None)
            self._unsecured.append(exchange)

    def record_in_turn(self, exchange: Exchange) -> None:
        """Do as `record`, but tell the others, with more of them, after what was put off until now."""
        if exchange.recorded:
            return
        self.secure_in_turn(exchange)
        exchange.recorded = True
        if not self._unrecorded:
            self.turn.after(self._record_together, None)
        self._unrecorded.append(exchange)
        if self._settles_apart:
            _raise(_settle(exchange))

    def _secure_together(self, _: None = None) -> None:
        ended, self._unsecured = self._unsecured, []
        if ended:
            self._first(ended)

    def _record_together(self, _: None) -> None:
        ended, self._unrecorded = self._unrecorded, []
        faults = self._tell(ended)
        for exchange in ended:
            faults += _settle(exchange)
        for fault in faults:
            told = {"message": f"{' '.join(fault.__notes__)} has not ended as it should", "exception": fault}
            asyncio.get_running_loop().call_exception_handler(told)

    def _tell(self, ended: Sequence[Exchange]) -> list[Exception]:
        """Have everybody write them down. Returns what they raise against their word."""
        faults: list[Exception] = []
        # One writer after the other: what it works with is in the processor's cache from the second exchange on.
        for write in self._others:
            for exchange in ended:
                try:
                    write(exchange)
                except Exception as fault:  # noqa: BLE001  whatever it is, nobody else is to go without
                    fault.add_note(exchange.id)
                    faults.append(fault)
        return faults


def _settle(exchange: Exchange) -> list[Exception]:
    """Give back all that it holds. Returns what could not be: it keeps nothing else."""
    faults: list[Exception] = []
    ends = exchange.at_end
    for end in ends:
        try:
            end()
        except Exception as fault:  # noqa: BLE001  likewise
            fault.add_note(exchange.id)
            faults.append(fault)
    # Each holds the exchange: in a circle, it would wait for the collector.
    ends.clear()
    exchange.leave = None
    return faults


def _raise(faults: list[Exception]) -> None:
    if len(faults) > 1:
        raise ExceptionGroup("a call has not ended as it should", faults)
    if faults:
        raise faults[0]
