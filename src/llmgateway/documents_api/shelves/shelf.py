"""Rows that have a name and perhaps an organization, of whatever kind: listed, read, made, changed and removed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from msgspec import Struct, structs
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llmgateway.documents_api.asked import Body, body_asked, page_asked
from llmgateway.documents_api.entities.shown import page_of
from llmgateway.documents_api.shelves.keeping import Keeping, not_there, unique
from llmgateway.documents_api.shelves.viewer import Owned, Viewer, owner_asked, viewer_of
from llmgateway.documents_api.shown import json_answer, removed
from llmgateway.ids import new_uuid
from llmgateway.storage.admin.rows import Deed, EntityKind

Row = TypeVar("Row", bound=Struct)


class Shelf(Generic[Row]):
    """Serves one kind of row.

    Args:
        path: Where, such as `/api/v1/prompts`.
        bodies: Of a new one, and of a change.
        row: What is kept; its fields are those of the bodies.
        shown: How clients see it.
        check: Refuses what must not be kept.
        check_removal: Refuses to remove what others rest on.
    """

    def __init__(
        self,
        keeping: Keeping,
        kind: EntityKind,
        path: str,
        *,
        bodies: tuple[type[Owned], type[Body]],
        row: type[Row],
        shown: Callable[[Row], Mapping[str, Any]],
        check: Callable[[Row], None] | None = None,
        check_removal: Callable[[Row], Any] | None = None,
    ) -> None:
        self._keeping = keeping
        self._kind = kind
        self._path = path
        self._new, self._change = bodies
        self._row = row
        self._shown = shown
        self._check = check
        self._check_removal = check_removal
        self._words = kind.replace("_", " ")

    def routes(self) -> list[Route]:
        """Give what is served."""
        one = f"{self._path}/{{id}}"
        return [
            Route(self._path, self.list, methods=["GET"]),
            Route(self._path, self.make, methods=["POST"]),
            Route(one, self.read, methods=["GET"]),
            Route(one, self.change, methods=["PATCH"]),
            Route(one, self.remove, methods=["DELETE"]),
        ]

    async def list(self, request: Request) -> Response:
        """Answer with those that whoever asks may see."""
        number, size = page_asked(request, ("name",))
        named = request.query_params.get("name")
        rows = [row for row in await self.seen(viewer_of(request)) if named in {None, _of(row, "name")}]
        return page_of(rows, number, size, self._shown)

    async def read(self, request: Request) -> Response:
        """Answer with one."""
        return json_answer(self._shown(await self.found(request)))

    async def make(self, request: Request) -> Response:
        """Make one."""
        body = body_asked(request, self._new)
        return await self.made(request, body, _values(body))

    async def made(self, request: Request, body: Owned, values: Mapping[str, Any]) -> Response:
        """Write a new one down and answer with it.

        Args:
            body: Says for which organization.
            values: Its fields, without its id, its organization and its times.
        """
        owner = owner_asked(request, body, self._words)
        now = self._keeping.now()
        known: dict[str, Any] = {"id": new_uuid(), "organization_id": owner, "created_at": now, "updated_at": now}
        row = self._row(**known, **values, unique_name=unique(owner, values["name"]))
        if self._check is not None:
            self._check(row)
        await self._keeping.add(self._kind, row, self._deed(viewer_of(request), "create", row, values))
        return json_answer(self._shown(row), 201, {"location": f"{self._path}/{known['id']}"})

    async def change(self, request: Request) -> Response:
        """Change one."""
        values = _values(body_asked(request, self._change))
        viewer, before = viewer_of(request), await self.found(request)
        viewer.check_may_change(_of(before, "organization_id"), self._words)

        def changed(row: Row) -> tuple[Row, Deed]:
            new = structs.replace(row, **values)
            if new == row:
                return row, self._deed(viewer, "update", row, values)
            name = unique(_of(row, "organization_id"), _of(new, "name"))
            new = structs.replace(new, unique_name=name, updated_at=self._keeping.now())
            if self._check is not None:
                self._check(new)
            return new, self._deed(viewer, "update", new, values)

        return json_answer(self._shown(await self._keeping.replace(self._kind, _of(before, "id"), changed)))

    async def remove(self, request: Request) -> Response:
        """Remove one."""
        viewer, row = viewer_of(request), await self.found(request)
        viewer.check_may_change(_of(row, "organization_id"), self._words)
        if self._check_removal is not None:
            await self._check_removal(row)
        identity: str = _of(row, "id")
        await self._keeping.remove(self._kind, identity, self._deed(viewer, "remove", row, {}))
        return removed(identity)

    async def found(self, request: Request) -> Row:
        """Give the one that the path names, by its id or its name. Raises: NotFoundError."""
        named: str = request.path_params["id"]
        rows = await self.seen(viewer_of(request))
        by_id = next((row for row in rows if _of(row, "id") == named), None)
        # An organization's own goes before a global one of the same name.
        ranked = sorted((row for row in rows if _of(row, "name") == named), key=_is_global)
        if by_id is None and not ranked:
            raise not_there(self._kind, named)
        return by_id or ranked[0]

    async def seen(self, viewer: Viewer) -> Sequence[Row]:
        """Give those that somebody sees, oldest first."""
        rows: Sequence[Row] = await self._keeping.every(self._kind)
        return [row for row in rows if viewer.sees(_of(row, "organization_id"))]

    def _deed(self, viewer: Viewer, what: str, row: Row, values: Mapping[str, Any]) -> Deed:
        details = {"name": _of(row, "name"), "fields": sorted(values)} if values else {"name": _of(row, "name")}
        return viewer.deed(f"{self._kind}.{what}", _of(row, "id"), _of(row, "organization_id"), details)


def _is_global(row: Struct) -> bool:
    return getattr(row, "organization_id", None) is None


def _of(row: Struct, name: str) -> Any:
    return getattr(row, name)


def _values(body: Body) -> dict[str, Any]:
    """Give what was sent, as plain values."""
    return body.model_dump(exclude_unset=True, exclude={"organization_id"})
