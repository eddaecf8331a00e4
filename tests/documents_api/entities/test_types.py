from tests.documents_api.library import ACME, ALONE, Library

GLOSSARY = {"code": "glossary", "name": "Glossary", "supports_reduce": False}


async def test_a_type_is_made_read_changed_and_removed(library: Library) -> None:
    made = await library.ask("POST", "/service-types", GLOSSARY)

    assert (made["built_in"], made["supports_reduce"], made["default_processing_mode"]) == (False, False, "iterative")
    assert await library.ask("GET", "/service-types/glossary") == made
    changed = await library.ask("PATCH", f"/service-types/{made['id']}", {"default_processing_mode": "map_reduce"})
    assert (changed["default_processing_mode"], changed["supports_reduce"]) == ("map_reduce", False)
    assert await library.ask("PATCH", f"/service-types/{made['id']}", {"name": "Glossary"}) == changed
    await library.ask("DELETE", "/service-types/glossary")
    await library.refused("GET", "/service-types/glossary", status=404)


async def test_those_of_a_new_database_are_listed_by_their_codes(library: Library) -> None:
    library.become(ALONE)

    codes = [one["code"] for one in (await library.ask("GET", "/service-types"))["items"]]

    assert codes == sorted(codes)
    assert {"summary", "translation", "generic", "speaker_correction"} <= set(codes)


async def test_only_administrators_change_types(library: Library) -> None:
    library.become(ACME)

    for method, path, body in (
        ("POST", "/service-types", GLOSSARY),
        ("PATCH", "/service-types/summary", {"name": "x"}),
        ("DELETE", "/service-types/summary", None),
    ):
        assert (await library.refused(method, path, body, status=403))["error_code"] == "ADMIN_REQUIRED"


async def test_a_code_is_there_once_and_one_in_use_stays(library: Library) -> None:
    await library.ask("POST", "/service-types", GLOSSARY)
    await library.refused("POST", "/service-types", GLOSSARY, status=409)
    await library.made(service_type="glossary")

    error = await library.refused("DELETE", "/service-types/glossary", status=409)

    assert error["error_code"] == "SERVICE_TYPE_IN_USE"
    assert (await library.refused("POST", "/service-types", {**GLOSSARY, "code": "Not a code"}, status=422))["errors"]
