"""Writes an exchange down: what must not be lost before its last byte is given away, all else right after."""

import time
from collections.abc import Callable, Sequence

from llmgateway.exchange import Exchange

Writer = Callable[[Exchange], None]


class Recorder:
    """Hands each exchange to every writer, once. None of them raises or waits.

    Args:
        first: The journal: a client that saw its answer's end finds it in the ledger.
        others: What tells how it ended, and so must see the end: metrics, log, trace.
    """

    def __init__(self, first: Writer, others: Sequence[Writer]) -> None:
        self._first = first
        self._others = tuple(others)

    def secure(self, exchange: Exchange) -> None:
        """Write down what must not be lost; a second call does nothing."""
        if exchange.ended is None:
            exchange.ended = time.perf_counter()
            self._first(exchange)

    def record(self, exchange: Exchange) -> None:
        """Write everything down; a second call does nothing."""
        if exchange.recorded:
            return
        try:
            if exchange.ended is None:
                self.secure(exchange)
            exchange.recorded = True
            exchange.ended = time.perf_counter()
            for write in self._others:
                write(exchange)
        finally:
            # Even a writer with a fault must not keep what others wait for.
            ends = exchange.at_end
            for end in ends:
                end()
            # Each holds the exchange: in a circle, it would wait for the collector.
            ends.clear()
            exchange.leave = None
