"""Every deployment's health, by what it is rather than by its place in a catalog: a reload changes nothing."""

import time
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b

from llmgateway.catalog.model import Account, Deployment
from llmgateway.routing.health.health import Change, Health, HealthPolicy

_Key = tuple[str, str, str]
_MOST = 8192  # names made up by clients must not fill the memory


class HealthBook:
    """Finds a deployment's health, or begins one.

    Args:
        clock: Seconds that only grow.
    """

    def __init__(self, policy: HealthPolicy | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        self.policy = policy or HealthPolicy()
        self.clock = clock
        self.listeners: list[Callable[[Health, Change], None]] = []
        # Told of each that is new, before anybody asks it.
        self.found: Callable[[Health], None] | None = None
        self._kept: dict[_Key, Health] = {}
        self._lasting: set[_Key] = set()

    def of(self, deployment: Deployment, *, lasting: bool = True) -> Health:
        """Give a deployment's health: another key or address at the same account is another deployment.

        Args:
            lasting: It is kept for good; others, whose names clients make up, as long as there is room.
        """
        account = deployment.account
        key = (account.name, deployment.model, _digest(account))
        found = self._kept.get(key)
        if lasting:
            self._lasting.add(key)
        if found is None:
            if len(self._kept) >= _MOST:
                self._drop_idle()
            name = f"{account.name}/{deployment.model}#{key[2]}"
            found = self._kept[key] = Health(name, account.name, deployment.model, self.policy, self._changed)
            if self.found is not None:
                self.found(found)
        return found

    def apart(self, deployment: Deployment) -> Health:
        """Give a health of its own, which nobody shares: for a client's own key, whose failures are not ours."""
        return Health("", deployment.account.name, deployment.model, self.policy, _untold)

    def at(self, accounts: Iterable[Account]) -> list[Health]:
        """Give what is known of deployments at these accounts, with the keys and addresses that they have now."""
        asked = {(account.name, _digest(account)) for account in accounts}
        return [health for (name, _, digest), health in self._kept.items() if (name, digest) in asked]

    def __iter__(self) -> Iterator[Health]:
        return iter(list(self._kept.values()))

    def _changed(self, health: Health, change: Change) -> None:
        for listener in self.listeners:
            listener(health, change)

    def _drop_idle(self) -> None:
        kept = {key: one for key, one in self._kept.items() if key in self._lasting or one.inflight}
        self._kept = kept


def _digest(account: Account) -> str:
    where = (account.provider, account.api_base, account.api_version, account.api_key, sorted(account.options.items()))
    return blake2b(repr(where).encode(errors="replace"), digest_size=6).hexdigest()


def _untold(health: Health, change: Change) -> None:
    """Nobody else has this key."""
