"""The audit log: who did what to keys, organizations, providers, deployments, caches and limits."""

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.api.admin.asked import admin_only, page_asked, text_in_query
from llmgateway.api.admin.shown import audit_shown, listed
from llmgateway.api.admin.writing import in_time
from llmgateway.api.ledger.asking import instant_asked
from llmgateway.storage.admin.admin import AdminStorage


def routes(storage: AdminStorage) -> list[Route]:
    """Serve `/admin/audit`, the newest first."""

    async def read_audit(request: Request) -> Response:
        admin_only(request)
        number, size = page_asked(request, ("from", "to", "actor", "action", "organization_id"))
        start, end = instant_asked(request, "from"), instant_asked(request, "to")
        named = {name: text_in_query(request, name) for name in ("actor", "action", "organization_id")}
        question = partial(storage.audit, start, end, **named, page=number, page_size=size)
        page = await in_time(question)
        return listed(map(audit_shown, page.rows), page, number, size)

    return [Route("/admin/audit", read_audit, methods=["GET"])]
