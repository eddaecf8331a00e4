import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pika  # type: ignore[import-untyped]
import psutil
import pytest
import redis

from tests import services

pytestmark = pytest.mark.timeout(300)  # the first run may unpack packages


def test_redis_server_answers_and_ends_with_its_block() -> None:
    with services.redis_server() as server:
        client = redis.Redis.from_url(server.url)
        client.set("greeting", "hello")

        assert client.get("greeting") == b"hello"
        client.close()
    assert not services.speaks(server.port, b"PING\r\n", b"+PONG")


def test_postgres_server_runs_a_query_and_ends_with_its_block() -> None:
    with services.postgres_server() as server, socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(services.POSTGRES_STARTUP)
        greeting = read_until(connection, b"Z")
        answer = ask(connection, b"SELECT 6 * 7 AS answer")

        assert b"server_version\0" in greeting
        assert b"answer" in answer
        assert b"\0\0\0\x0242" in answer
    assert not services.speaks(server.port, services.POSTGRES_STARTUP, b"R")


def test_postgres_server_that_was_stopped_starts_again_with_its_rows_on_its_port() -> None:
    with services.postgres_server() as server:
        with connected(server) as connection:
            ask(connection, b"CREATE TABLE kept AS SELECT 42 AS answer")
        server.stop()
        server.stop()

        assert not services.speaks(server.port, services.POSTGRES_STARTUP, b"R")

        server.start()
        server.start()
        with connected(server) as connection:
            assert b"\0\0\0\x0242" in ask(connection, b"SELECT answer FROM kept")
    assert not services.speaks(server.port, services.POSTGRES_STARTUP, b"R")


def test_postgres_server_that_is_stopped_cuts_off_whoever_is_connected() -> None:
    with services.postgres_server() as server, connected(server) as connection:
        server.stop()

        with connection.makefile("rb") as stream:
            assert b"terminating connection" in stream.read()


def _rabbits() -> list[psutil.Process]:
    return [each for each in psutil.Process().children(recursive=True) if each.name() in {"epmd", "beam.smp"}]


def test_rabbitmq_server_passes_a_message_on_this_machine_only_and_leaves_nothing_running() -> None:
    before = _rabbits()  # those of whoever tests with one beside
    with services.rabbitmq_server() as server:
        with pika.BlockingConnection(pika.URLParameters(server.url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.queue_declare("queue", durable=True)
            channel.basic_publish("", "queue", b"hello")
            assert channel.basic_get("queue", auto_ack=True)[2] == b"hello"

        programs = [each for each in _rabbits() if each not in before]
        sockets = [each for program in programs for each in program.net_connections("inet")]
        listening = {each.laddr for each in sockets if each.status == psutil.CONN_LISTEN}
        assert ("127.0.0.1", server.port) in listening
        assert {address[0] for address in listening} <= {"127.0.0.1", "::1"}
    assert not services.listens(server.port)
    assert psutil.wait_procs(programs, 5)[1] == []


def test_prometheus_server_runs_on_the_given_configuration_and_ends_with_its_block(tmp_path: Path) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text("global: {scrape_interval: 41s}\n")

    with services.prometheus_server(config) as server:
        assert "scrape_interval: 41s" in httpx2.get(f"{server.url}/api/v1/status/config").json()["data"]["yaml"]
    assert not services.speaks(server.port, b"GET /-/ready HTTP/1.0\r\n\r\n", b"HTTP/1.0")


def test_promtool_says_what_is_wrong_with_a_configuration(tmp_path: Path) -> None:
    config = tmp_path / "prometheus.yml"
    config.write_text("no_such_section: 1\n")

    checked = services.promtool("check", "config", str(config))

    assert checked.returncode != 0
    assert "no_such_section" in checked.stdout + checked.stderr


@contextmanager
def connected(server: services.Server) -> Iterator[socket.socket]:
    """Open a session of PostgreSQL that is ready for a query."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as connection:
        connection.sendall(services.POSTGRES_STARTUP)
        read_until(connection, b"Z")
        yield connection


def ask(connection: socket.socket, query: bytes) -> bytes:
    """Send one query; return all that PostgreSQL answers."""
    connection.sendall(b"Q" + (len(query) + 5).to_bytes(4) + query + b"\0")
    return read_until(connection, b"Z")


def read_until(connection: socket.socket, last: bytes) -> bytes:
    """Read PostgreSQL's messages up to the first of the type `last`: a byte of type, four of length, the rest."""
    received = b""
    with connection.makefile("rb") as stream:
        kind = b""
        while kind != last:
            kind, length = stream.read(1), stream.read(4)
            received += kind + length + stream.read(int.from_bytes(length) - 4)
    return received


def test_server_that_ends_at_once_shows_what_it_wrote() -> None:
    command = ["sh", "-c", "echo no such option; exit 1"]

    with (
        services.workplace() as folder,
        pytest.raises(RuntimeError, match="no such option"),
        services.running(command, folder, lambda: False),
    ):
        pytest.fail("it was taken for ready")


def test_unpacked_program_is_shown_its_libraries(tmp_path: Path) -> None:
    libraries = tmp_path / "usr" / "lib" / "x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    found = services.Found(tmp_path / "usr" / "bin" / "server", tmp_path)

    assert found.command("--port", "1") == ["env", f"LD_LIBRARY_PATH={libraries}", str(found.path), "--port", "1"]
    assert services.Found(found.path).command(name="tool") == [str(found.path.with_name("tool"))]


@pytest.mark.parametrize("program", [services.REDIS, services.POSTGRES, services.PROMETHEUS, services.CHROMIUM])
def test_no_library_of_a_program_is_missing(program: services.Program) -> None:
    found = services.find(program)
    shown = [*found.command()[:-1], "ldd", str(found.path)]
    listed = subprocess.run(shown, capture_output=True, text=True, check=False)  # noqa: S603 - a program of ours

    assert "not found" not in listed.stdout + listed.stderr


def test_missing_program_names_the_package_to_install(tmp_path: Path) -> None:
    unknown = services.Program("no-such-server", "no-such-package", ("usr/bin",))

    def refuse(_package: str, _folder: Path) -> list[Path]:
        raise subprocess.CalledProcessError(100, "apt-get", stderr="E: no such package")

    with pytest.raises(services.ServiceMissingError, match=r"apt-get install no-such-package\).*E: no such package"):
        services.unpack(unknown, tmp_path / "unpacked", refuse)


def test_unpacked_program_is_found_without_unpacking_again(tmp_path: Path) -> None:
    program = services.Program("no-such-server", "no-such-package-anywhere", ("usr/bin",))
    unpacked = tmp_path / program.package / "usr" / "bin" / program.name
    unpacked.parent.mkdir(parents=True)
    unpacked.touch()

    assert services.find(program, tmp_path) == services.Found(unpacked, tmp_path / program.package)
