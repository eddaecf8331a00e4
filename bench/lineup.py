"""Everybody who takes part, in the order of measuring."""

from dataclasses import replace
from pathlib import Path

from bench import litellm_proxy, nginx, portkey
from bench.contestants import Contestant, prototype
from bench.ours import gateway, plain, without_redis, workers


def lineup(without: set[str], cache: Path, *, full: bool = False) -> list[Contestant]:
    """Put together who takes part; install the peers; say who is left out and why.

    Raises:
        RuntimeError: A peer cannot be installed; the message says how to leave it out.
    """
    work = cache / "bench-run"
    chosen = [
        prototype("null", "null ASGI app (answers by itself)"),
        prototype("raw", "bare raw ASGI + aiohttp relay"),
        gateway(work / "gateway"),
        plain(work / "plain"),
        workers(work / "one-worker", "one-worker", 1),
        workers(work / "two-workers", "two-workers", 2),
    ]
    if full:
        chosen += [prototype("starlette", "Starlette + aiohttp relay"), without_redis(work / "redis-down")]
    if "nginx" not in without:
        if program := nginx.find(cache):
            chosen.append(_nginx(program, work))
        else:
            print("nginx: left out, neither installed nor to be had as a Debian package")
    if "portkey" not in without:
        if program := portkey.install(cache):
            chosen.append(_portkey(program))
        else:
            print("portkey: left out, there is no node with npm; it needs Node 20 or newer")
    if "litellm" not in without:
        program = litellm_proxy.install(cache)
        chosen += [_litellm(program, work), _litellm_cache(program, work)]
    return [contestant for contestant in chosen if contestant.name not in without]


def _nginx(program: Path, work: Path) -> Contestant:
    return Contestant(
        "nginx", "nginx as reverse proxy", lambda port, upstream: nginx.command(program, work / "nginx", port, upstream)
    )


def _portkey(program: Path) -> Contestant:
    return Contestant(
        "portkey",
        f"Portkey gateway {portkey.VERSION}",
        lambda port, _: portkey.command(program, port),
        "/",
        (("NODE_ENV", "production"),),
        translates=True,
        headers=portkey.headers,
    )


def _litellm(program: Path, work: Path) -> Contestant:
    return Contestant(
        "litellm",
        f"LiteLLM proxy {litellm_proxy.VERSION}, no database",
        lambda port, upstream: litellm_proxy.command(program, work / "litellm", port, upstream),
        "/health/liveliness",
        litellm_proxy.ENVIRONMENT,
        translates=True,
    )


def _litellm_cache(program: Path, work: Path) -> Contestant:
    folder = work / "litellm-cache"
    return replace(
        _litellm(program, work),
        name="litellm-cache",
        title=f"LiteLLM proxy {litellm_proxy.VERSION} with its memory cache",
        command=lambda port, upstream: litellm_proxy.command(program, folder, port, upstream, cache=True),
        only=frozenset({"hit"}),
    )
