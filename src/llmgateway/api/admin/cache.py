"""Kept answers: how many there are, and how to forget some of them."""

from functools import partial
from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.api.admin.asked import Body, Id, admin_only, body_asked, deed
from llmgateway.api.admin.shown import json_answer
from llmgateway.api.admin.writing import in_time, of_store
from llmgateway.gateway.cache_admin import CacheAdmin
from llmgateway.storage.admin.admin import AdminStorage

Name = Annotated[str, Field(min_length=1, max_length=256)]


class Clearing(Body):
    """Which answers are forgotten: those that all of this is true of; nothing said is all of them.

    Args:
        pattern: A glob over `{user}_{model}_{digest}`.
        user: The `user` field of whoever asked.
    """

    pattern: Name | None = None
    model: Name | None = None
    organization_id: Id | None = None
    key_id: Id | None = None
    user: Name | None = None


def routes(cache: CacheAdmin, storage: AdminStorage) -> list[Route]:
    """Serve `/admin/cache`."""

    async def read_cache(request: Request) -> Response:
        admin_only(request)
        return json_answer(await of_store(cache.status))

    async def clear_cache(request: Request) -> Response:
        asked = await body_asked(request, Clearing)
        named = asked.model_dump(exclude_none=True)
        entries = await of_store(partial(cache.clear, **named))
        whose = asked.key_id or asked.organization_id or asked.model or asked.pattern or asked.user or "everything"
        # A `user` may be a person's name: that one was named is enough.
        details = {**named, **({"user": True} if asked.user else {}), "entries_cleared": entries}
        subject = "user" if whose == asked.user else whose
        written = deed(request, "cache.clear", subject, organization_id=asked.organization_id, details=details)
        await in_time(partial(storage.note, [written]))
        return json_answer({"entries_cleared": entries})

    return [
        Route("/admin/cache", read_cache, methods=["GET"]),
        Route("/admin/cache/clear", clear_cache, methods=["POST"]),
    ]
