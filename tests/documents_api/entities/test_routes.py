from tests.documents_api.library import Library


async def test_a_path_with_a_word_is_not_taken_for_an_id(library: Library) -> None:
    paths = [route.path for route in library.entity_pages()]

    assert paths.index("/api/v1/flavors/validate-prompt") < paths.index("/api/v1/flavors/{flavor_id}")
    assert (await library.ask("POST", "/flavors/validate-prompt", {"prompt": "{} {}"}))["valid"]


async def test_a_method_that_is_not_served_is_told_with_those_that_are(library: Library) -> None:
    answer = await library.send("PUT", "/services")

    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
