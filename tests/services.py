"""Real servers for the tests: taken from the machine, else unpacked from Debian packages without root.

`python -m tests.services` finds or unpacks them all beforehand and says where each was found.
"""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.memory import in_memory

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "services"
READY_WITHIN_S = 30.0
# apt-get as root downloads as another user, who may not write into our folders.
AS_THIS_USER = ("-o", "APT::Sandbox::User=root") if os.geteuid() == 0 else ()
# PostgreSQL refuses to run as root.
SERVICE_USER = "nobody" if os.geteuid() == 0 else None
# PostgreSQL: protocol 3.0, then name-value pairs, each ended by a zero byte.
POSTGRES_USER = "gateway"
_PARAMETERS = f"\0\3\0\0user\0{POSTGRES_USER}\0database\0postgres\0\0".encode()
POSTGRES_STARTUP = (len(_PARAMETERS) + 4).to_bytes(4) + _PARAMETERS


class ServiceMissingError(RuntimeError):
    """A server is neither on this machine nor could it be unpacked; the message names the packages to install."""


class Run:
    """A server's program while a block runs; within it, it can be stopped and started again with what it kept."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        ready: Callable[[], bool],
        user: str | None,
        ending: signal.Signals = signal.SIGINT,
    ) -> None:
        self._command = command
        self._folder = folder
        self._ready = ready
        self._user = user
        self._ending = ending
        self._program: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready; nothing when it runs.

        Raises:
            RuntimeError: It ended or was not ready in time; the message holds the last of what it wrote.
        """
        if self._program is not None:
            return
        log = self._folder / "server.log"
        with log.open("ab") as output:
            self._program = subprocess.Popen(  # noqa: S603  the arguments are ours
                self._command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=self._user,
            )
        wait_until_ready(self._program, self._ready, log)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing when it does not run."""
        if self._program is not None:
            self._program.send_signal(number)

    def stop(self) -> None:
        """End it, its connections with it, and wait until it is gone; nothing when it does not run."""
        program, self._program = self._program, None
        if program is not None:
            stop(program, self._ending)


@dataclass(frozen=True, slots=True)
class Server:
    """A running server on the loopback address; stopped and started again, it has the same port and what it kept."""

    port: int
    url: str
    run: Run

    def stop(self) -> None:
        """End it now; whoever is connected is cut off."""
        self.run.stop()

    def start(self) -> None:
        """Start it again and wait until it answers."""
        self.run.start()

    @contextmanager
    def hung(self) -> Iterator[None]:
        """Let it take connections and answer nothing while a block runs."""
        self.run.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.run.signal(signal.SIGCONT)


@dataclass(frozen=True, slots=True)
class Program:
    """A server's program: its names in Debian, and where it lies besides PATH."""

    name: str
    package: str
    places: tuple[str, ...]


REDIS = Program("redis-server", "redis-server", ("usr/bin",))
PROMETHEUS = Program("prometheus", "prometheus", ("usr/bin",))
POSTGRES = Program("postgres", "postgresql", ("usr/lib/postgresql/*/bin", "usr/local/pgsql/bin"))
RABBITMQ = Program("rabbitmq-server", "rabbitmq-server", ("usr/lib/rabbitmq/bin",))
ERLANG = Program("erlexec", "rabbitmq-server", ("usr/lib/erlang/erts-*/bin",))
CHROMIUM = Program("chromium", "chromium", ("usr/lib/chromium",))
# What PATH has of these are scripts that want root, and folders of the machine's own.
BY_PLACE = (RABBITMQ, ERLANG)

# PulseAudio's library has another half, which it looks for at an absolute path alone.
_LIBRARIES = ("**/lib/*-linux-*", "**/lib/*-linux-*/pulseaudio")


@dataclass(frozen=True, slots=True)
class Found:
    """A program on this machine; `root` is the folder it was unpacked into, `None` when it is installed."""

    path: Path
    root: Path | None = None

    def command(self, *arguments: str, name: str = "", environ: Mapping[str, str] | None = None) -> list[str]:
        """Return the command line for it, or for `name` beside it; an unpacked one is shown its libraries."""
        program = str(self.path.with_name(name) if name else self.path)
        given = dict(environ or {})
        if self.root is not None:
            folders = [folder for place in _LIBRARIES for folder in self.root.glob(place)]
            given["LD_LIBRARY_PATH"] = ":".join(map(str, sorted(folders)))
        return [*(["env", *(f"{key}={value}" for key, value in given.items())] if given else []), program, *arguments]


@contextmanager
def redis_server(*options: str) -> Iterator[Server]:
    """Run an empty Redis that keeps nothing, with these options of its own beside ours."""
    redis = find(REDIS)
    port = free_port()
    with workplace() as folder:
        folder_of_dump = "--save", "", "--appendonly", "no", "--dir", str(folder)
        command = redis.command("--port", str(port), "--bind", "127.0.0.1", *folder_of_dump, *options)
        with running(command, folder, lambda: speaks(port, b"PING\r\n", b"+PONG")) as server:
            yield Server(port, f"redis://127.0.0.1:{port}/0", server)


@contextmanager
def postgres_server() -> Iterator[Server]:
    """Run an empty PostgreSQL that trusts the user `gateway` and does not wait for the disk.

    It can be stopped and started again: same port, same rows.
    """
    port = free_port()
    with workplace() as folder:
        postgres = reachable(find(POSTGRES), folder)
        cluster = str(folder / "cluster")
        who = "--username", POSTGRES_USER, "--auth", "trust"
        run(
            postgres.command(
                "--pgdata", cluster, *who, "--encoding", "UTF8", "--locale", "C", "--no-sync", name="initdb"
            ),
            user=SERVICE_USER,
        )
        address = "-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="
        command = postgres.command("-D", cluster, *address, "-c", "fsync=off")
        with running(command, folder, lambda: speaks(port, POSTGRES_STARTUP, b"R")) as server:
            yield Server(port, f"postgresql://{POSTGRES_USER}@127.0.0.1:{port}/postgres", server)


@contextmanager
def rabbitmq_server() -> Iterator[Server]:
    """Run an empty RabbitMQ as whoever runs the tests; everybody may do everything as `guest`, from this machine.

    It can be stopped and started again: same port, same queues. Its `epmd` is its own and ends with it.
    """
    rabbitmq, erlang = find(RABBITMQ), find(ERLANG)
    port, name_port = free_port(), free_port()
    with workplace() as folder:
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{port}\nlog.console = true\nlog.console.level = error\nlog.file = false\n"
        )
        given = rabbitmq_environment(rabbitmq, erlang, folder, name_port)
        names = erlang.command(name="epmd", environ=given)
        # What scripts of RabbitMQ would run, without what they look for elsewhere on the machine.
        command = erlang.command(
            *("-noinput", "-boot", "start_sasl", "-s", "rabbit", "boot", "+W", "w", "+S", "2:2"),
            *("+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"),
            *("-kernel", "inet_dist_use_interface", "{127,0,0,1}"),
            *("-syslog", "logger", "[]", "-syslog", "syslog_error_logger", "false"),
            environ=given,
        )

        def takes_logins() -> bool:
            return speaks(port, b"AMQP\0\0\x09\x01", b"\x01\0\0")

        with (
            running(names, folder, lambda: listens(name_port), None),
            running(command, folder, takes_logins, None, signal.SIGTERM) as server,
        ):
            yield Server(port, f"amqp://guest:guest@127.0.0.1:{port}/%2F", server)


def rabbitmq_environment(rabbitmq: Found, erlang: Found, folder: Path, name_port: int) -> dict[str, str]:
    """Say where RabbitMQ and Erlang lie, and that all they write goes to `folder`."""
    (home,) = (rabbitmq.path.parent.parent / "lib").glob("rabbitmq_server-*")
    return {
        "HOME": str(folder),  # for the cookie
        "ROOTDIR": str(erlang.path.parent.parent.parent),
        "BINDIR": str(erlang.path.parent),
        "EMU": "beam",
        "PROGNAME": "erl",
        "ERL_LIBS": str(home / "plugins"),
        "ERL_EPMD_PORT": str(name_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "SYS_PREFIX": str(folder),
        "RABBITMQ_HOME": str(home),
        "RABBITMQ_PLUGINS_DIR": str(home / "plugins"),
        "RABBITMQ_NODENAME": "rabbit@localhost",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_DIST_PORT": str(free_port()),
    }


@contextmanager
def prometheus_server(config: Path, port: int | None = None) -> Iterator[Server]:
    """Run a Prometheus with an empty store on a configuration; its rule files are found from there.

    It runs as whoever runs the tests, so that it can read what they wrote.
    """
    port = port or free_port()
    with workplace() as folder:
        command = find(PROMETHEUS).command(
            f"--config.file={config.resolve()}",
            f"--storage.tsdb.path={folder / 'store'}",
            f"--web.listen-address=127.0.0.1:{port}",
        )
        question = b"GET /-/ready HTTP/1.0\r\n\r\n"
        with running(command, folder, lambda: speaks(port, question, b"HTTP/1.0 200"), None) as server:
            yield Server(port, f"http://127.0.0.1:{port}", server)


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Prometheus's own checker; what it found is in the output."""
    command = find(PROMETHEUS).command(*arguments, name="promtool")
    return subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603  the arguments are ours


def find(program: Program, cache: Path = CACHE) -> Found:
    """Return the program: from PATH, the usual places, the cache, else unpacked into the cache now.

    Raises:
        ServiceMissingError: It could be found nowhere.
    """
    on_path = None if program in BY_PLACE else shutil.which(program.name)
    installed = Path(on_path).resolve() if on_path and program is POSTGRES else on_path
    if installed := installed or lies_in(Path("/"), program):
        return Found(Path(installed))
    root = cache / program.package
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{program.package}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return Found(lies_in(root, program) or unpack(program, root, fetch), root)


def lies_in(root: Path, program: Program) -> Path | None:
    """Return the newest copy of the program under `root`."""
    found = [path for place in program.places for path in root.glob(f"{place}/{program.name}") if path.exists()]
    return max(found, default=None)


def unpack(program: Program, target: Path, fetch: Callable[[str, Path], list[Path]]) -> Path:
    """Fetch the program's package and what it depends on, and unpack them; nothing is installed."""
    say(f"{program.name} is not on this machine: unpacking Debian's {program.package} into {target}")
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        folder = Path(name)
        try:
            unpack_packages(fetch(program.package, folder), folder / "root")
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or str(error)
            raise ServiceMissingError(
                f"The tests need {program.name}: install it (Debian, Ubuntu: apt-get install {program.package}) "
                f"or put it on PATH. Unpacking it here failed: {reason.strip()}"
            ) from error
        (folder / "root").rename(target)
    found = lies_in(target, program)
    if found is None:
        raise ServiceMissingError(f"The package {program.package} has no {program.name}: put one on PATH.")
    return found


def unpack_packages(packages: Sequence[Path], target: Path) -> None:
    for number, package in enumerate(packages, 1):
        say(f"  {number} of {len(packages)}: {package.name}")
        run(["dpkg", "-x", str(package), str(target)])


def fetch(package: str, folder: Path) -> list[Path]:
    """Download a package and its missing dependencies, with the system's package lists or, failing that, new ones."""
    try:
        download(package, folder, ())
    except subprocess.CalledProcessError:
        say("  the package lists are missing or old: fetching new ones, for this only")
        download(package, folder, private_lists(folder))
    return sorted(folder.glob("*.deb"))


def private_lists(folder: Path) -> list[str]:
    """Fetch package lists into `folder`, which needs no root; return the options that use them."""
    options = []
    for setting in ("Dir::State::Lists", "Dir::Cache"):
        path = folder / setting.replace("::", "-")
        (path / "partial").mkdir(parents=True)
        (path / "archives" / "partial").mkdir(parents=True)
        options += ["-o", f"{setting}={path}"]
    run(["apt-get", *options, *AS_THIS_USER, "update"])
    return options


def download(package: str, folder: Path, options: Sequence[str]) -> None:
    plan = run(["apt-get", *options, "install", "--simulate", "--no-install-recommends", package])
    wanted = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
    run(["apt-get", *options, *AS_THIS_USER, "download", *(wanted or [package])], cwd=folder)


def reachable(found: Found, folder: Path) -> Found:
    """Return a copy that another user can run: PostgreSQL refuses root, and root's own folders are closed to others."""
    if SERVICE_USER is None or found.root is None:
        return found
    copy = folder / "unpacked"
    shutil.copytree(found.root, copy, symlinks=True)
    return Found(copy / found.path.relative_to(found.root), copy)


@contextmanager
def workplace() -> Iterator[Path]:
    """Make a folder for one server, its owner the user that the server runs as."""
    with tempfile.TemporaryDirectory(prefix="llmgateway-", dir=in_memory()) as name:
        if SERVICE_USER is not None:
            shutil.chown(name, SERVICE_USER)
        yield Path(name)


@contextmanager
def running(
    command: Sequence[str],
    folder: Path,
    ready: Callable[[], bool],
    user: str | None = SERVICE_USER,
    ending: signal.Signals = signal.SIGINT,
) -> Iterator[Run]:
    """Run a server until the block ends.

    Raises:
        RuntimeError: It ended or was not ready in time; the message holds the last of what it wrote.
    """
    server = Run(command, folder, ready, user, ending)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def wait_until_ready(server: subprocess.Popen[bytes], ready: Callable[[], bool], log: Path) -> None:
    give_up = time.monotonic() + READY_WITHIN_S
    while not ready():
        if server.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError(f"{server.args!r} is not ready:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.02)


def stop(server: subprocess.Popen[bytes], ending: signal.Signals = signal.SIGINT) -> None:
    # SIGINT: Redis leaves at once; PostgreSQL ends its sessions instead of waiting for them. Erlang would ask a person.
    server.send_signal(ending)
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def speaks(port: int, question: bytes, answer: bytes) -> bool:
    """Tell whether the server at `port` answers `question` with something that begins with `answer`."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(question)
            return connection.recv(len(answer)) == answer
    except OSError:
        return False


def listens(port: int) -> bool:
    """Tell whether anybody takes connections at `port`."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """Return a port on the loopback address that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run(command: Sequence[str], *, cwd: Path | None = None, user: str | None = None) -> str:
    """Run a program to its end and return what it printed."""
    return subprocess.run(  # noqa: S603  the arguments are ours
        command, check=True, cwd=cwd, user=user, stdin=subprocess.DEVNULL, capture_output=True, text=True
    ).stdout


def say(line: str) -> None:
    sys.stderr.write(line + "\n")


def main() -> int:
    """Find or unpack every server."""
    for program in (REDIS, POSTGRES, RABBITMQ, ERLANG, PROMETHEUS, CHROMIUM):
        try:
            say(f"  {program.name}: {find(program).path}")
        except ServiceMissingError as error:
            say(str(error))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
