"""Whoever asks for services and their parts: what that one sees, and what that one may change."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from starlette.requests import Request

from llmgateway.caller import Caller
from llmgateway.documents_api.asked import Body, exchange_of, organization_asked, sees_everything
from llmgateway.errors import PermissionDeniedError
from llmgateway.storage.admin.rows import Deed


class Owned(Body):
    """A thing that is to be made, and for which organization; `null` is everybody, without it the caller's own."""

    organization_id: str | None = None


class Viewer(Struct, frozen=True, kw_only=True):
    """Sees what is global and what is the own organization's; who administers and acts for nobody sees everything.

    Args:
        everyone: Whether all organizations' things are seen.
    """

    caller: Caller
    organization: str | None
    everyone: bool = False
    may_administer: bool = False

    def sees(self, organization_id: str | None) -> bool:
        """Whether a thing of this organization, `None` for a global one, is there for whoever asks."""
        return self.everyone or organization_id is None or organization_id == self.organization

    def check_may_change(self, organization_id: str | None, kind: str) -> None:
        """Let only administrators change what is everybody's. Raises: PermissionDeniedError."""
        if organization_id is None and not self.may_administer:
            raise PermissionDeniedError(
                f"This {kind} is everybody's: only an administrator may change it. Make one of your own.",
                code="admin_required",
            )

    def deed(
        self, action: str, subject: str, organization_id: str | None, details: Mapping[str, Any] | None = None
    ) -> Deed:
        """Say who does what, for the audit log; `details` hold no text of a prompt."""
        actor = self.caller.key_id or ("local" if self.may_administer else self.caller.kind)
        return Deed(actor=actor, action=action, subject=subject, organization_id=organization_id, details=details or {})


def viewer_of(request: Request) -> Viewer:
    """Tell who asks."""
    exchange = exchange_of(request)
    return Viewer(
        caller=exchange.caller,
        organization=exchange.organization,
        everyone=sees_everything(request, exchange.organization),
        may_administer=exchange.may_administer or exchange.caller.kind == "admin",
    )


def administrator(request: Request) -> Viewer:
    """Give whoever asks, who must be an administrator. Raises: PermissionDeniedError."""
    viewer = viewer_of(request)
    if not viewer.may_administer:
        raise PermissionDeniedError("This needs the admin key.", code="admin_required")
    return viewer


def owner_asked(request: Request, body: Owned, kind: str) -> str | None:
    """Give the organization that a new thing is for; `None` is everybody.

    Raises:
        NotFoundError: It is another's.
        PermissionDeniedError: Only administrators make what is everybody's.
        UnprocessableError: It is no organization's name.
    """
    is_for_all = "organization_id" in body.named and body.organization_id is None
    owner = None if is_for_all else organization_asked(request, body.organization_id)
    if owner is None and not viewer_of(request).may_administer:
        raise PermissionDeniedError(
            f"A {kind} without an organization is everybody's: only an administrator may make one. "
            "Use a key of an organization, or name it in `organization_id`.",
            code="admin_required",
        )
    return owner
