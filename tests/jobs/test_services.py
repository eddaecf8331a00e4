from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
from msgspec import structs

from llmgateway.flavor import Flavor
from llmgateway.jobs.services import Service, Services
from llmgateway.storage.documents.rows import FlavorRow, PromptRow, ServiceRow

AT = datetime(2026, 1, 1, tzinfo=UTC)


def service(identity: str, organization: str | None = None, route: str = "notes") -> ServiceRow:
    return ServiceRow(
        id=identity,
        name=route,
        route=route,
        service_type="summary",
        unique_name=f"{organization or ''}/{route}",
        unique_route=f"{organization or ''}/{route}",
        organization_id=organization,
        created_at=AT,
        updated_at=AT,
    )


def flavor(identity: str, of: str = "s", *, minutes: int = 0, is_default: bool = False, **more: Any) -> FlavorRow:
    at = AT + timedelta(minutes=minutes)
    return FlavorRow(
        id=identity,
        service_id=of,
        name=identity,
        unique_name=f"{of}/{identity}",
        settings=Flavor(model="chat"),
        created_at=at,
        updated_at=at,
        is_default=is_default,
        **more,
    )


def prompt(identity: str, organization: str | None = None) -> PromptRow:
    return PromptRow(
        id=identity,
        name=identity,
        unique_name=f"{organization or ''}/{identity}",
        content="{{document}}",
        organization_id=organization,
        created_at=AT,
        updated_at=AT,
    )


class Shelf:
    """Rows that are read, each kind counted; `held` keeps a reader waiting."""

    def __init__(self, **rows: Sequence[Any]) -> None:
        self.rows: dict[str, list[Any]] = {kind: list(given) for kind, given in rows.items()}
        self.reads = 0
        self.reading, self.goes_on = anyio.Event(), anyio.Event()
        self.goes_on.set()

    async def every(self, kind: str, /) -> Sequence[Any]:
        self.reads += kind == "service"
        found = list(self.rows.get(kind, ()))
        self.reading.set()
        await self.goes_on.wait()
        return found


async def test_the_default_is_the_one_that_is_marked_else_the_oldest_active_one() -> None:
    old, young, resting = flavor("old", minutes=1), flavor("young", minutes=2), flavor("resting", is_active=False)

    assert Service(service("s")).default is None
    assert Service(service("s"), (resting,)).default is None
    assert Service(service("s"), (resting, old, young)).default == old
    marked = structs.replace(young, is_default=True)
    assert Service(service("s"), (resting, old, marked)).default == marked


async def test_of_two_marks_the_last_one_counts() -> None:
    first, second = flavor("first", minutes=1, is_default=True), flavor("second", minutes=2, is_default=True)

    assert Service(service("s"), (second, first)).default == second
    same = structs.replace(first, updated_at=second.updated_at)
    assert Service(service("s"), (same, second)).default == Service(service("s"), (second, same)).default


async def test_a_service_is_found_by_its_id_and_by_its_route_the_own_one_first() -> None:
    shared, own, other = service("1"), service("2", "acme"), service("3", "beta")
    services = Services(Shelf(service=[shared, own, other]))

    assert await found(services, "notes", "acme") == "2"
    assert await found(services, "notes", "gamma") == "1"
    assert await found(services, "notes", None) == "1"
    assert await found(services, "2", "acme") == "2"
    assert await found(services, "3", "acme") is None
    assert await found(services, "1", "acme") == "1"
    assert await found(services, "none", "acme") is None


async def test_who_sees_everything_names_any_by_its_id_and_by_a_route_that_one_has() -> None:
    services = Services(Shelf(service=[service("1", "acme"), service("2", "beta"), service("3", "beta", "minutes")]))

    assert await found(services, "1", None, everyone=True) == "1"
    assert await found(services, "minutes", None, everyone=True) == "3"
    assert await found(services, "notes", None, everyone=True) is None
    assert await found(services, "1", None) is None


async def test_flavors_belong_to_services_that_are_there() -> None:
    services = Services(Shelf(service=[service("s")], flavor=[flavor("a"), flavor("lost", "gone")]))

    its = await services.service_of("a")
    assert its is not None
    assert its.flavor("a") == await services.flavor("a") == flavor("a")
    assert its.flavor("b") is None
    assert await services.flavor("lost") is None
    assert await services.service_of("lost") is None


async def test_an_organization_sees_its_own_and_everybodys() -> None:
    services = Services(
        Shelf(
            service=[service("1"), service("2", "acme"), service("3", "beta")], prompt=[prompt("p"), prompt("q", "x")]
        )
    )

    assert [one.row.id for one in await services.listed("acme")] == ["1", "2"]
    assert [one.row.id for one in await services.listed(None)] == ["1"]
    assert len(await services.listed(None, everyone=True)) == 3
    assert await services.prompt("p", "acme") == prompt("p")
    assert await services.prompt("q", "acme") is None
    assert await services.prompt("q", "x") == prompt("q", "x")
    assert [len(await services.prompts(name)) for name in ("acme", "x")] == [1, 2]
    assert len(await services.prompts(None, everyone=True)) == 2


async def test_rows_are_read_once_until_one_of_them_changes() -> None:
    shelf = Shelf(service=[service("1")])
    services = Services(shelf)

    assert shelf.reads == 0
    for _ in range(3):
        await services.listed(None)
    services.changed("key", "k")
    services.changed("preset", "p")
    assert shelf.reads == 1
    await services.listed(None)
    shelf.rows["service"] = []
    services.changed("service", "1")
    assert await services.listed(None) == []
    services.everything_changed()
    await services.listed(None)
    assert shelf.reads == 3


async def test_many_who_ask_at_once_read_once() -> None:
    shelf = Shelf(service=[service("1")])
    services = Services(shelf)
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(services.listed, None)

    assert shelf.reads == 1


async def test_what_changes_while_it_is_read_is_read_again() -> None:
    shelf = Shelf(service=[service("1")])
    services = Services(shelf)
    shelf.goes_on = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(services.listed, None)
        await shelf.reading.wait()
        shelf.rows["service"] = []
        services.changed("service", "1")
        shelf.goes_on.set()

    assert await services.listed(None) == []


async def found(services: Services, name: str, organization: str | None, *, everyone: bool = False) -> str | None:
    service = await services.service(name, organization, everyone=everyone)
    return None if service is None else service.row.id
