"""Who is asking: from the key that a request presents to its caller, by the auth mode.

Keys are never compared themselves. Each is hashed first and its hash is looked up whole, so that the time it takes says
nothing of how much of a wrong key is right.
"""

from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Literal

from llmgateway.caller import ANYONE, Caller
from llmgateway.errors import AuthenticationError
from llmgateway.keys.directory import Directory
from llmgateway.keys.hashing import hash_of, is_ours, same
from llmgateway.keys.shapes import provider_of

Mode = Literal["none", "gateway", "client", "hybrid"]

ADMIN = Caller(kind="admin", key_id="admin")
# Whoever sits at the machine itself, where nobody else is let in and there is no key.
LOCAL_ADMIN = Caller(kind="admin", key_id="local")

_NO_KEY = "No key was sent. Send yours as `Authorization: Bearer …` or as `X-API-Key: …`."
# The same for a key that nobody has, one that is disabled and one that has expired.
_WRONG_KEY = (
    "This key is not known here, or it no longer holds. Check it for missing characters, or ask whoever runs this "
    "gateway for a new one."
)


def _nobody() -> Collection[str]:
    return ()


def _unnoted(_: str) -> None:
    """Nobody wants to know when keys are used."""


class Identify:
    """Knows every way to prove who one is.

    Args:
        mode: Which callers are let in.
        gateway_keys: Those shared by many, of mode gateway and hybrid.
        directory: Clients' own keys, of mode client and hybrid.
        accepted: LiteLLM's names of the providers whose own keys callers may bring, of mode hybrid.
        used: Told of each use of a client's key, by its id.

    Raises:
        ValueError: One key is meant for two purposes.
    """

    def __init__(
        self,
        mode: Mode,
        *,
        gateway_keys: Sequence[str] = (),
        admin_key: str | None = None,
        metrics_key: str | None = None,
        directory: Directory | None = None,
        accepted: Callable[[], Collection[str]] = _nobody,
        used: Callable[[str], None] = _unnoted,
    ) -> None:
        self.mode = mode
        self.has_admin_key = admin_key is not None
        self._admin_hash = None if admin_key is None else hash_of(admin_key)
        self._metrics_hash = None if metrics_key is None else hash_of(metrics_key)
        shared = [hash_of(key) for key in gateway_keys] if mode in {"gateway", "hybrid"} else []
        if self._admin_hash in shared or (self._admin_hash is not None and self._admin_hash == self._metrics_hash):
            raise ValueError("ADMIN_KEY must be another key than METRICS_KEY and all of AUTH__GATEWAY_KEYS")
        self._of_settings = {digest: Caller(kind="shared", key_id=f"gateway_{digest[:8]}") for digest in shared}
        if self._admin_hash is not None:
            self._of_settings[self._admin_hash] = ADMIN
        self._directory = directory if mode in {"client", "hybrid"} else None
        self._accepted = accepted if mode == "hybrid" else _nobody
        self._used = used

    def at_once(self, proof: bytes | None) -> Caller | None:
        """Give the caller when that needs no question; `None` says nothing."""
        return None if proof is None else self.known(hash_of(proof))

    def known(self, digest: str) -> Caller | None:
        """The same by the hash of the key that came."""
        found = self._of_settings.get(digest)
        if found is None and self._directory is not None:
            found = self._directory.known(digest)
            if found is not None and found.key_id is not None:
                self._used(found.key_id)
        return found

    async def caller(self, proof: bytes | None, address: str | None) -> Caller:
        """Give the caller.

        Args:
            proof: The key that came, if one did.
            address: The peer's.

        Raises:
            AuthenticationError: No key came, or none that is known and holds.
            KeysAwayError: The key is not known here, and the database cannot be asked.
        """
        found = self.at_once(proof)
        if found is not None:
            return found
        if self.mode == "none":
            return ANYONE
        if proof is None:
            raise no_key()
        found = await self._client(proof) or self._of_provider(proof, address)
        if found is None:
            raise wrong_key()
        return found

    def may_read_metrics(self, proof: bytes) -> bool:
        """Whether this is the metrics key; the admin key is known by its caller."""
        return self._metrics_hash is not None and same(hash_of(proof), self._metrics_hash)

    async def _client(self, proof: bytes) -> Caller | None:
        if self._directory is None or not is_ours(proof):
            return None
        found = await self._directory.find(hash_of(proof))
        if found is not None and found.key_id is not None:
            self._used(found.key_id)
        return found

    def _of_provider(self, proof: bytes, address: str | None) -> Caller | None:
        provider = provider_of(proof) if self.mode == "hybrid" else None
        if provider is None or provider not in self._accepted():
            return None
        return Caller(kind="provider", key_id=_place(address), provider=provider, provider_key=proof.decode("ascii"))


def no_key() -> AuthenticationError:
    """Say that no key came, and how to send one."""
    return AuthenticationError(_NO_KEY)


def wrong_key() -> AuthenticationError:
    """Say that a key is not known or no longer holds: the same text for all of it."""
    return AuthenticationError(_WRONG_KEY)


@lru_cache(maxsize=1024)
def _place(address: str | None) -> str:
    """Name where somebody comes from; whoever has one IPv6 address has 64 bits of them."""
    try:
        found = ip_address(address or "")
    except ValueError:
        return "address_unknown"
    if not isinstance(found, IPv6Address):
        return f"address_{found}"
    if found.ipv4_mapped is not None:
        return f"address_{found.ipv4_mapped}"
    return f"address_{IPv6Network((found, 64), strict=False).network_address}"
