from bench.special import Listener, established

TABLE = """\
  sl  local_address rem_address   st
   0: 0100007F:1F90 00000000:0000 0A
   1: 0100007F:C350 0100007F:1F90 01
   2: 0100007F:1F90 0100007F:C350 01
   3: 0100007F:C351 0100007F:1F90 06
"""


def test_connections_to_a_port_are_counted_from_the_side_that_opened_them() -> None:
    assert established(8080, TABLE) == 1
    assert established(50000, TABLE) == 1
    assert established(9, TABLE) == 0


def test_a_stream_has_begun_with_its_first_event_and_only_once() -> None:
    begun: list[Listener] = []
    listener = Listener(b"", begun.append)

    listener.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
    assert begun == []
    listener.data_received(b"data: {}\n\n")
    listener.data_received(b"data: {}\n\n")

    assert begun == [listener]
