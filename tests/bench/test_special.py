import os
import socket

import pytest

from bench import special
from bench.contestants import Contestant
from bench.special import Listener, established, sockets_of

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11
   1: 0100007F:C350 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 12
   2: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 13
   3: 0100007F:C351 0100007F:1F90 06 00000000:00000000 00:00000000 00000000     0        0 14
   4: 0100007F:C352 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 15
"""


def test_connections_that_lead_to_a_port_are_counted_for_whoever_holds_them() -> None:
    assert established(8080, {"11", "12", "13", "14"}, TABLE) == 1
    assert established(8080, {"12", "15"}, TABLE) == 2
    assert established(8080, set(), TABLE) == 0
    assert established(9, {"12", "15"}, TABLE) == 0


def test_a_connection_of_this_program_is_found_among_its_sockets() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert established(port, sockets_of(os.getpid())) == 0
        with socket.create_connection(("127.0.0.1", port)):
            assert established(port, sockets_of(os.getpid())) == 1


class Unmoved:
    """Stands for a program that runs."""

    contestant = Contestant("gateway", "gateway", lambda *_: [])
    port = 0

    def resume(self) -> None:
        """Go on."""

    def pause(self) -> None:
        """Stand still."""


def test_a_stream_has_begun_with_its_first_event_and_only_once() -> None:
    begun: list[Listener] = []
    listener = Listener(b"", begun.append)

    listener.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
    assert begun == []
    listener.data_received(b"data: {}\n\n")
    listener.data_received(b"data: {}\n\n")

    assert begun == [listener]


@pytest.mark.parametrize("error", [TimeoutError(), RuntimeError("refused"), ConnectionResetError("gone")])
async def test_who_fails_stands_in_the_table_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def failing(*_: object) -> dict[str, float]:
        raise error

    monkeypatch.setattr(special, "ALONE", {"leavers": failing})
    told: list[str] = []

    done = await special.measure({"gateway": Unmoved()}, Unmoved(), ["leavers"], told.append)  # type: ignore[dict-item, arg-type]

    assert done == [special.Special("leavers", "gateway", {"failed": 1.0})]
    assert "gateway failed" in told[0]
