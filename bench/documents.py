"""How many document jobs one process brings to their end, its embedded worker among what it does."""

import asyncio
import http.client
import json
import time
from collections.abc import Mapping
from typing import Any

from bench import payloads
from bench.accounting import cpu_s
from bench.contestants import Running

JOBS, PASSES = 40, 10
_LIMIT_S, _LOOK_S = 120.0, 0.25
# A pass for each paragraph, so that it is known how many there are.
_FLAVOR = {
    "name": "plain",
    "model": payloads.SMALL,
    "user_prompt": "{{document}}",
    "output_type": "text",
    "processing_mode": "iterative",
    "max_new_turns": 1,
    "summary_turns": 0,
}


async def throughput(running: Running, _: int) -> Mapping[str, float]:
    """Order jobs and wait for the last; what they take.

    Raises:
        RuntimeError: An order was refused, or a job failed; the message holds the answer.
        TimeoutError: They are not done after two minutes.
    """
    return await asyncio.to_thread(_throughput, running)


def _throughput(running: Running) -> Mapping[str, float]:
    _ask(running, "POST", "/services", {"name": "Bench", "flavors": [_FLAVOR]})
    text = "\n\n".join(f"Speaker {number}: we ship on Friday, and I write the notes." for number in range(PASSES))
    before_s, began_s = cpu_s(running.pid), time.perf_counter()
    waiting = [_ask(running, "POST", "/services/bench/execute", {"input": text})["job_id"] for _ in range(JOBS)]
    while waiting:
        job = _ask(running, "GET", f"/jobs/{waiting[-1]}")
        if job["status"] == "failed":
            raise RuntimeError(f"a job failed: {job}")
        if job["completed_at"] is not None:
            waiting.pop()
        elif time.perf_counter() - began_s > _LIMIT_S:
            raise TimeoutError
        else:
            time.sleep(_LOOK_S)
    took_s = time.perf_counter() - began_s
    return {
        "jobs_a_second": JOBS / took_s,
        "passes_a_second": JOBS * PASSES / took_s,
        "cpu_ms_a_pass": (cpu_s(running.pid) - before_s) / (JOBS * PASSES) * 1000,
    }


def _ask(running: Running, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
    headers = {"content-type": "application/json", **running.headers("openai")}
    link = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
    link.request(method, f"/api/v1{path}", json.dumps(body) if body else None, headers)
    answer = link.getresponse()
    told = answer.read()
    link.close()
    if answer.status >= http.client.BAD_REQUEST:
        raise RuntimeError(f"{method} {path} was answered {answer.status}: {told[:300]!r}")
    return json.loads(told)
