"""The machine and the interpreter, in the terms a reader elsewhere can compare with."""

import os
import platform
import sysconfig
import timeit
from importlib import metadata
from pathlib import Path

import llmgateway
from bench.commands import run

ROOT = Path(__file__).parents[1]


def describe() -> dict[str, str]:
    """Say what was measured on: processor, cores, kernel, interpreter and commit."""
    return {
        "processor": _processor(Path("/proc/cpuinfo").read_text()),
        "cores": str(os.cpu_count()),
        "kernel": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        "python": f"CPython {platform.python_version()}, {platform.python_compiler()}, {_build()}",
        "loop": f"{_loop_ms():.0f} ms for one million squares in a generator",
        "commit": _commit(),
    }


def versions(nginx: Path | None) -> dict[str, str]:
    """Say which versions of the programs take part, those that are there.

    Args:
        nginx: Its program.
    """
    found = {"llmgateway": llmgateway.__version__, "python": platform.python_version()}
    found |= {name: metadata.version(name) for name in ("uvicorn", "aiohttp", "uvloop", "httptools", "msgspec")}
    found["kernel"] = platform.release()
    for name, command in (("node", ["node", "--version"]), ("nginx", [str(nginx or "nginx"), "-v"])):
        succeeded, printed = run(command)
        if succeeded:
            found[name] = printed.strip().rpartition("/")[2].removeprefix("v")
    return found


def _processor(cpuinfo: str) -> str:
    named = (line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name"))
    return next(named, platform.machine())


def _build() -> str:
    arguments = f"{sysconfig.get_config_var('CONFIG_ARGS')} {sysconfig.get_config_var('PY_CORE_CFLAGS')}"
    # Debian's packages are built with profiling (PGO) by their own rules and do not say so here.
    pgo = "yes" if "--enable-optimizations" in arguments else "not stated"
    lto = "yes" if "lto" in arguments else "not stated"
    return f"PGO {pgo}, LTO {lto}"


def _loop_ms() -> float:
    return min(timeit.repeat("sum(n * n for n in range(1_000_000))", number=1, repeat=5)) * 1000


def _commit() -> str:
    succeeded, printed = run(["git", "rev-parse", "--short", "HEAD"], ROOT)
    if not succeeded:
        return "unknown"
    _, changed = run(["git", "status", "--porcelain", "--untracked-files=no", "src", "bench"], ROOT)
    return f"{printed.strip()}{' with changes' if changed.strip() else ''}"
