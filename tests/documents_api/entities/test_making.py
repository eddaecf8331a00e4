import pytest

from llmgateway.documents_api.entities.making import free_route, slug
from tests.documents_api.library import Library

ID = "0199-aaaa-bbbb-cccc-0123456789ab"


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("Meeting minutes", "meeting-minutes"),
        ("  Ärzte: Größe & Straße  ", "arzte-grosse-strasse"),
        ("Œuvres d'Élodie", "oeuvres-d-elodie"),
        ("Łódź Ørsted", "lodz-orsted"),
        ("\ufb01nal \uff12\uff10\uff12\uff16", "final-2026"),
        ("--", ""),
        ("会議", ""),
        ("会議 v2", "v2"),
        ("x" * 100, "x" * 80),
    ],
)
def test_a_route_is_what_a_name_is_in_ascii(name: str, route: str) -> None:
    assert slug(name) == route


def test_a_name_without_any_such_letter_gets_a_short_id() -> None:
    assert free_route("会議", ID, ()) == "service-456789ab"


def test_a_route_that_is_taken_gets_a_number() -> None:
    assert free_route("Notes", ID, {"notes", "notes-2"}) == "notes-3"


async def test_a_service_that_cannot_be_written_leaves_no_flavor(library: Library) -> None:
    before = await library.storage.every("flavor")
    add = library.storage.add_entity

    async def never(kind: object, row: object, deed: object) -> None:
        if kind == "service":
            raise OSError("away")
        await add(kind, row, deed)  # type: ignore[arg-type]  # it passes on what came

    library.storage.add_entity = never  # type: ignore[method-assign]
    body = {"name": "Notes", "flavors": [{"name": name, "model": "chat"} for name in "ab"]}
    error = await library.refused("POST", "/services", body, status=503)

    assert error["error_code"] == "LEDGER_UNAVAILABLE"
    assert await library.storage.every("flavor") == before


async def test_a_flavor_that_says_no_mode_has_that_of_the_services_type(library: Library) -> None:
    body = {"code": "glossary", "name": "Glossary", "default_processing_mode": "map_reduce"}
    await library.ask("POST", "/service-types", body)

    service = await library.made(service_type="glossary")

    assert service["flavors"][0]["processing_mode"] == "map_reduce"
    assert (await library.added(service, "two"))["processing_mode"] == "map_reduce"
    assert (await library.added(service, "three", processing_mode="iterative"))["processing_mode"] == "iterative"
