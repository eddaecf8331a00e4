import msgspec

from llmgateway.documents_api.entities.shown import flavor_shown, page_of, service_shown
from llmgateway.flavor import Flavor
from llmgateway.jobs.services import Service
from tests.jobs.test_services import flavor, service


def test_a_page_is_cut_out_of_the_whole_list() -> None:
    answer = page_of([1, 2, 3], 2, 2, lambda number: {"number": number})

    assert msgspec.json.decode(bytes(answer.body)) == {
        "items": [{"number": 3}],
        "total": 3,
        "page": 2,
        "page_size": 2,
        "total_pages": 2,
    }
    assert answer.headers["cache-control"] == "no-store"


def test_a_flavor_is_shown_with_all_its_settings() -> None:
    row = flavor("a")

    shown = flavor_shown(row, Service(service("s"), (row,)))

    assert set(Flavor.__struct_fields__) <= shown.keys()
    assert (shown["stop"], shown["failover_on"]["timeout"]) == ((), True)


def test_exactly_one_flavor_is_shown_as_the_default() -> None:
    rows = (flavor("a", is_default=True), flavor("b", minutes=1, is_default=True))

    shown = service_shown(Service(service("s"), rows))

    assert [one["is_default"] for one in shown["flavors"]] == [False, True]
    assert shown["default_flavor_id"] == "b"
    assert service_shown(Service(service("s")))["default_flavor_id"] is None
