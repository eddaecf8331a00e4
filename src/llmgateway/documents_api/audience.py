"""Everybody who watches jobs over a connection of this process: sent away when it ends, to come back elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

import anyio


class Audience:
    """Those who watch. What they have seen they know themselves, so that another process goes on from there."""

    def __init__(self) -> None:
        self._scopes: set[anyio.CancelScope] = set()
        self._over = False

    def __len__(self) -> int:
        return len(self._scopes)

    @contextmanager
    def seated(self) -> Iterator[anyio.CancelScope]:
        """Be one of them: the scope is cancelled when they are sent away."""
        with anyio.CancelScope() as scope:
            if self._over:
                scope.cancel()
            self._scopes.add(scope)
            try:
                yield scope
            finally:
                self._scopes.discard(scope)

    def send_away(self) -> None:
        """Let nobody watch here any more."""
        self._over = True
        for scope in self._scopes:
            scope.cancel()
