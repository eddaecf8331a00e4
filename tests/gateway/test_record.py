import asyncio
import time
from collections.abc import Sequence
from functools import partial

import pytest

from llmgateway.exchange import Exchange
from llmgateway.gateway.record import Recorder
from llmgateway.turn import Turn


def recorder(written: list[str]) -> Recorder:
    return Recorder(
        lambda _: written.append("journal"), [lambda _: written.append("metrics"), lambda _: written.append("log")]
    )


def test_an_exchange_is_written_down_once_by_each_in_order() -> None:
    written: list[str] = []
    exchange = Exchange()

    recorder(written).record(exchange)
    recorder(written).record(exchange)

    assert written == ["journal", "metrics", "log"]


def test_what_must_not_be_lost_is_written_before_the_rest_is_known() -> None:
    written: list[str] = []
    exchange = Exchange()

    recorder(written).secure(exchange)
    recorder(written).secure(exchange)
    secured = list(written)
    recorder(written).record(exchange)

    assert secured == ["journal"]
    assert written == ["journal", "metrics", "log"]


def test_writers_see_when_it_ended() -> None:
    seen: list[float] = []
    exchange = Exchange()

    def note(exchange: Exchange) -> None:
        assert exchange.ended is not None
        seen.append(exchange.ended)

    before = time.perf_counter()
    recorder_of_times = Recorder(lambda exchanges: note(*exchanges), [note])
    recorder_of_times.secure(exchange)
    between = time.perf_counter()
    recorder_of_times.record(exchange)

    first, second = seen
    assert before <= first <= between <= second <= time.perf_counter()


def test_what_a_call_holds_is_given_back_once_at_its_very_end() -> None:
    written: list[str] = []
    exchange = Exchange()
    exchange.at_end.append(lambda: written.append("settled"))

    recorder(written).secure(exchange)
    assert "settled" not in written
    recorder(written).record(exchange)
    recorder(written).record(exchange)

    assert written == ["journal", "metrics", "log", "settled"]


def test_what_a_call_holds_is_given_back_though_a_writer_has_a_fault() -> None:
    written: list[str] = []
    exchange = Exchange()
    exchange.at_end.append(lambda: written.append("settled"))

    def faulty(_: Sequence[Exchange]) -> None:
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        Recorder(faulty, []).record(exchange)

    assert written == ["settled"]
    assert exchange.at_end == []


def test_a_writer_with_a_fault_keeps_nothing_from_the_others() -> None:
    written: list[str] = []
    exchange = Exchange()
    exchange.at_end.append(lambda: written.append("settled"))

    def faulty(_: Exchange) -> None:
        raise ValueError

    with pytest.raises(ValueError, match=exchange.id):
        Recorder(lambda _: None, [faulty, lambda _: written.append("log")]).record(exchange)

    assert written == ["log", "settled"]


def test_no_fault_hides_another() -> None:
    def faulty(*_: object) -> None:
        raise LookupError

    exchange = Exchange()
    exchange.at_end += [faulty, faulty]
    with pytest.raises(ExceptionGroup) as raised:
        Recorder(faulty, [faulty], None).record(exchange)

    assert len(raised.value.exceptions) == 4
    assert exchange.recorded


def together(written: list[str], turn: Turn, *, apart: bool = False) -> Recorder:
    def journal(exchanges: Sequence[Exchange]) -> None:
        written.append(f"journal of {len(exchanges)}")

    others = [lambda _: written.append("metrics"), lambda _: written.append("log")]
    return Recorder(journal, others, turn, settles_apart=apart)


@pytest.mark.parametrize("apart", [False, True])
async def test_those_that_end_in_one_turn_are_secured_before_their_answers_are_written_and_told_after(
    apart: bool,
) -> None:
    turn, written = Turn(), list[str]()
    recorder = together(written, turn, apart=apart)
    for exchange in (Exchange(), Exchange()):
        exchange.at_end.append(lambda: written.append("settled"))
        recorder.secure_in_turn(exchange)
        turn.put_off(lambda data: written.append(data.decode()), b"answer")
        recorder.record_in_turn(exchange)
        recorder.record_in_turn(exchange)
        recorder.record(exchange)
        assert exchange.recorded
    settled, at_once = ["settled", "settled"], [*written]
    await asyncio.sleep(0)

    told = ["journal of 2", "answer", "answer", "metrics", "metrics", "log", "log"]
    assert at_once == (settled if apart else [])
    assert written == ([*settled, *told] if apart else [*told, *settled])


async def test_an_answer_that_is_the_last_of_many_in_a_turn_waits_for_its_own_line() -> None:
    turn, written = Turn(), list[str]()
    recorder = together(written, turn)
    for _ in range(20):
        exchange = Exchange()
        recorder.secure_in_turn(exchange)
        turn.put_off(lambda data: written.append(data.decode()), b"answer")
        recorder.record_in_turn(exchange)
    await asyncio.sleep(0)

    secured, answered = 0, 0
    for what in written:
        secured += int(what.removeprefix("journal of ")) if what.startswith("journal") else 0
        answered += what == "answer"
        assert answered <= secured
    assert (secured, answered, written.count("log")) == (20, 20, 20)


async def test_each_turn_has_its_own_line() -> None:
    turn, written = Turn(), list[str]()
    recorder = together(written, turn)
    for _ in range(2):
        recorder.record_in_turn(Exchange())
        await asyncio.sleep(0)

    assert written == ["journal of 1", "metrics", "log"] * 2


async def test_what_is_held_is_given_back_though_the_journal_has_a_fault() -> None:
    turn, written = Turn(), list[str]()
    asyncio.get_running_loop().set_exception_handler(lambda *_: written.append("told"))

    def faulty(_: Sequence[Exchange]) -> None:
        raise ValueError

    exchange = Exchange()
    exchange.at_end.append(lambda: written.append("settled"))
    Recorder(faulty, [], turn).record_in_turn(exchange)
    turn.put_off(lambda data: written.append(data.decode()), b"answer")
    turn.end()

    assert written == ["told", "answer", "settled"]


async def test_one_that_cannot_be_settled_or_told_keeps_nothing_from_the_others() -> None:
    turn, written, told = Turn(), list[str](), list[str]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
    exchanges = [Exchange() for _ in range(3)]

    def faulty() -> None:
        raise OverflowError

    def write(exchange: Exchange) -> None:
        if exchange is exchanges[1]:
            raise LookupError
        written.append(exchange.id)

    recorder = Recorder(lambda _: None, [write, lambda exchange: written.append(exchange.id)], turn)
    for exchange in exchanges:
        exchange.at_end += [partial(written.append, exchange.id)]
    exchanges[1].at_end.insert(0, faulty)
    for exchange in exchanges:
        recorder.record_in_turn(exchange)
    turn.end()

    ids = [exchange.id for exchange in exchanges]
    assert written == [ids[0], ids[2], *ids, *ids]
    assert told == [f"{ids[1]} has not ended as it should"] * 2


async def test_what_cannot_be_given_back_at_once_is_its_own_calls_fault() -> None:
    def faulty() -> None:
        raise OverflowError

    written = list[str]()
    recorder, exchange = together(written, turn := Turn(), apart=True), Exchange()
    exchange.at_end += [faulty, partial(written.append, "settled")]
    with pytest.raises(OverflowError):
        recorder.record_in_turn(exchange)
    turn.end()

    assert written == ["settled", "journal of 1", "metrics", "log"]


async def test_who_is_told_everything_at_once_is_in_the_journal_first() -> None:
    turn, written = Turn(), list[str]()
    recorder, exchange = together(written, turn), Exchange()
    recorder.secure_in_turn(exchange)
    recorder.record(exchange)
    turn.end()

    assert written == ["journal of 1", "metrics", "log"]
