import time

import pytest

from llmgateway.exchange import Exchange
from llmgateway.gateway.record import Recorder


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
    recorder_of_times = Recorder(note, [note])
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

    def faulty(_: Exchange) -> None:
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        Recorder(faulty, []).record(exchange)

    assert written == ["settled"]
    assert exchange.at_end == []
