"""What goes out in one turn of the event loop."""

import asyncio

from llmgateway.turn import Turn


async def test_what_is_written_in_a_turn_goes_out_at_its_end_in_order() -> None:
    turn, written = Turn(), list[bytes]()
    turn.put_off(written.append, b"one")
    turn.put_off(written.append, b"two")
    assert written == []
    await asyncio.sleep(0)

    assert written == [b"one", b"two"]


async def test_each_turn_has_its_own_end() -> None:
    turn, written = Turn(), list[bytes]()
    for data in (b"one", b"two", b"three"):
        turn.put_off(written.append, data)
        await asyncio.sleep(0)
        assert written[-1] == data

    assert len(written) == 3


async def test_who_cannot_wait_ends_it_and_nothing_goes_out_twice() -> None:
    turn, written = Turn(), list[bytes]()
    turn.put_off(written.append, b"one")
    turn.end()
    assert written == [b"one"]
    turn.put_off(written.append, b"two")
    await asyncio.sleep(0)

    assert written == [b"one", b"two"]


async def test_what_is_written_while_it_ends_goes_out_next() -> None:
    turn, written = Turn(), list[bytes]()

    def answer(data: bytes) -> None:
        written.append(data)
        if len(data) < 3:
            turn.put_off(answer, data + b"!")

    turn.put_off(answer, b"1")
    await asyncio.sleep(0)
    assert written == [b"1"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert written == [b"1", b"1!", b"1!!"]


async def test_the_first_of_many_does_not_wait_for_all() -> None:
    turn, written = Turn(), list[bytes]()
    for number in range(100):
        turn.put_off(written.append, b"%d" % number)

    assert 80 <= len(written) < 100
    await asyncio.sleep(0)
    assert written == [b"%d" % number for number in range(100)]


async def test_one_that_fails_silences_no_other_and_is_told_to_the_loop() -> None:
    turn, written, told = Turn(), list[bytes](), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    fault = BrokenPipeError()

    def fail(_: bytes) -> None:
        raise fault

    turn.after(written.append, b"after")
    for write in (written.append, fail, written.append):
        turn.put_off(write, b"said")
    turn.end()

    assert written == [b"said", b"said", b"after"]
    assert told == [fault]


async def test_what_is_to_be_done_before_and_after_is_done_so_once() -> None:
    turn, done = Turn(), list[str]()
    turn.after(done.append, "after one")
    turn.put_off(lambda data: done.append(data.decode()), b"one")
    turn.before(done.append, "before one")
    turn.put_off(lambda data: done.append(data.decode()), b"two")
    await asyncio.sleep(0)
    expected = ["before one", "one", "two", "after one"]
    assert done == expected
    await asyncio.sleep(0)

    assert done == expected


async def test_nothing_need_be_written_for_it() -> None:
    turn, done = Turn(), list[str]()
    turn.after(done.append, "after")
    turn.before(done.append, "before")
    await asyncio.sleep(0)

    assert done == ["before", "after"]
