import json
import os
import pickle
import resource
import socket
import sys
from functools import partial
from pathlib import Path

import anyio
import pytest

from llmgateway.answering import Protocol
from llmgateway.server import bind, configuration, make_workers_folder, raise_file_limit
from llmgateway.settings import load_settings
from llmgateway.worker import create_child_app


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


def test_figures_of_servers_that_are_gone_are_removed(tmp_path: Path) -> None:
    workers = tmp_path / "workers"
    names = ("host-1-999999999", f"host-1-{os.getppid()}", f"host-1-{os.getpid()}", "host-2-999999999")
    gone, lives, own, elsewhere = (workers / name for name in names)
    for folder in (gone, lives, own, elsewhere):
        folder.mkdir(parents=True)
        (folder / "figures").touch()

    make_workers_folder(own)

    assert sorted(workers.iterdir()) == sorted([lives, own, elsewhere])
    assert list(own.iterdir()) == []


async def test_a_worker_whose_port_is_taken_says_which_setting_names_another(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        ran = await anyio.run_process(
            [sys.executable, "-m", "llmgateway", "worker", "--port", port], cwd=tmp_path, check=False
        )

    (line,) = [json.loads(line) for line in ran.stdout.splitlines() if b"cannot_listen" in line]
    assert ran.returncode == 1
    assert "LLMGATEWAY_WORKER_PORT" in line["reason"]


def test_worker_processes_are_handed_the_environment_they_need() -> None:
    made = partial(create_child_app, {"LLMGATEWAY_WORKER_THREADS": "3"})

    config = configuration(made, load_settings({"LLMGATEWAY_WORKERS": "4"}), workers=2)

    assert (config.factory, config.workers) == (True, 2)
    assert pickle.loads(pickle.dumps(config.app)).args == made.args  # noqa: S301  as the server hands it to its processes


async def test_a_data_folder_that_cannot_be_written_ends_the_start_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    command = [sys.executable, "-m", "llmgateway", "serve", "--port", "0"]

    ran = await anyio.run_process(command, cwd=tmp_path, check=False)

    assert b'"serving"' not in ran.stdout
    (line,) = [json.loads(line) for line in ran.stdout.splitlines() if b"cannot_start" in line]
    assert ran.returncode == 1
    assert "data/journal" in line["reason"]
