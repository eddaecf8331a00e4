from llmgateway.stores.base import Board
from llmgateway.stores.memory.board import MemoryBoard


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


async def test_a_note_hangs_until_its_time_is_over() -> None:
    clock = Clock()
    board = MemoryBoard(clock)
    seen: Board = board
    seen.post("health", "a", b"rests", 5.0)
    seen.post("health", "b", b"too", 2.0)
    seen.post("others", "a", b"elsewhere", 5.0)

    clock.now_s += 3.0

    notes = await seen.read("health")
    assert {name: (note.text, note.left_s) for name, note in notes.items()} == {"a": (b"rests", 2.0)}
    assert await seen.read("nothing") == {}


async def test_a_note_replaces_the_one_of_its_name_or_only_the_one_that_is_meant() -> None:
    clock = Clock()
    board = MemoryBoard(clock)
    board.post("health", "a", b"first", 5.0)
    board.post("health", "a", b"second", 9.0)
    assert board.look("health")["a"].text == b"second"

    board.post("health", "a", b"closed", 5.0, instead_of=b"first")
    assert board.look("health")["a"].text == b"second"
    board.post("health", "a", b"closed", 5.0, instead_of=b"second")
    assert board.look("health")["a"].text == b"closed"
    board.post("health", "b", b"new", 5.0, instead_of=b"anything")
    assert board.look("health")["b"].text == b"new"

    clock.now_s += 6.0
    board.post("health", "a", b"later", 5.0, instead_of=b"anything")
    assert board.look("health")["a"].text == b"later"
