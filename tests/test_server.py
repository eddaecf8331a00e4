import resource
import socket

import pytest

from llmgateway.answering import Protocol
from llmgateway.server import bind, configuration, raise_file_limit
from llmgateway.settings import load_settings


def test_the_socket_names_its_protocol_so_that_small_answers_are_not_held_back() -> None:
    with bind("127.0.0.1", 0) as listening:
        assert listening.proto == socket.IPPROTO_TCP
        assert listening.getsockname()[1] > 0


def test_both_families_can_be_bound() -> None:
    with bind("::1", 0) as listening:
        assert listening.family == socket.AF_INET6


def test_a_taken_address_is_an_error() -> None:
    with bind("127.0.0.1", 0) as first, pytest.raises(OSError, match="in use"):
        bind("127.0.0.1", first.getsockname()[1])


def test_as_many_files_may_be_open_as_the_system_allows() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))

        assert raise_file_limit() == before[1]
        assert raise_file_limit() == before[1]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_nothing_names_the_server_and_nothing_is_logged_twice() -> None:
    config = configuration("llmgateway.app:create_app", load_settings({"LLMGATEWAY_WORKERS": "2"}))

    assert (config.factory, config.workers, config.server_header, config.access_log) == (True, 2, False, False)
    assert config.http is Protocol
