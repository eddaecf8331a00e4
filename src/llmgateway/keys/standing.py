"""Who ordered a job, as the key stands when the job runs: hours may lie between the two."""

from datetime import UTC, datetime
from typing import Protocol

from llmgateway.caller import Caller
from llmgateway.errors import AuthenticationError, KeysAwayError
from llmgateway.keys.directory import caller_of
from llmgateway.storage.admin.rows import KeyRow, OrganizationRow


class Rows(Protocol):
    """Where keys and organizations are found by their ids. Raises: OSError."""

    async def key(self, key_id: str) -> KeyRow | None: ...

    async def organization(self, organization_id: str) -> OrganizationRow | None: ...


class Standing:
    """Looks a caller's key up anew; whoever has none of its own is whoever he was."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    async def __call__(self, caller: Caller) -> Caller:
        """Give the caller as the key says now.

        Raises:
            AuthenticationError: The key was revoked, removed, or is over.
            KeysAwayError: That cannot be found out now.
        """
        if caller.kind != "client" or caller.key_id is None:
            return caller
        try:
            row = await self._rows.key(caller.key_id)
            named = None if row is None else row.organization_id
            organization = None if named is None else await self._rows.organization(named)
        except OSError:
            raise KeysAwayError("The keys cannot be read now, so nobody can say whether this job may go on.") from None
        if row is None or not _holds(row):
            raise AuthenticationError("The key that ordered this job is no longer valid.")
        return caller_of(row, organization)


def _holds(row: KeyRow) -> bool:
    return not row.disabled and (row.expires_at is None or row.expires_at > datetime.now(UTC))
