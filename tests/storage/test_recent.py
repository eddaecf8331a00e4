import msgspec

from llmgateway.storage.recent import RecentEntries
from tests.storage.journals import entry


def test_an_entry_is_found_by_our_id_and_by_the_clients() -> None:
    recent = RecentEntries()
    first, second, other = entry(client_id="mine"), entry(client_id="mine"), entry()
    for each in (first, second, other):
        recent.extend([msgspec.json.encode(each)])

    assert recent.by_id(other.id) == other
    assert recent.by_id("mine") is None
    assert recent.by_client_id("mine") == [second, first]


def test_only_the_last_ones_are_kept() -> None:
    recent = RecentEntries(most=2)
    entries = [entry() for _ in range(3)]
    for each in entries:
        recent.extend([msgspec.json.encode(each)])

    assert [recent.by_id(each.id) for each in entries] == [None, *entries[1:]]
