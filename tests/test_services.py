import socket
import subprocess
from pathlib import Path

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
        query = b"SELECT 6 * 7 AS answer\0"
        connection.sendall(b"Q" + (len(query) + 4).to_bytes(4) + query)
        answer = read_until(connection, b"Z")

        assert b"server_version\0" in greeting
        assert b"answer" in answer
        assert b"\0\0\0\x0242" in answer
    assert not services.speaks(server.port, services.POSTGRES_STARTUP, b"R")


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
