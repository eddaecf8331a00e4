"""Call the real providers whose keys are in the environment (or `.env`) through a gateway started for it.

Each costs a few tokens. `--only openai,groq` picks some; `--model openai=gpt-4.1-mini` asks another model there.
"""

import argparse
import contextlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import openai

from llmgateway.settings import environment

QUESTION = "Answer with the one word that completes the sentence: The capital of France is"
START_WITHIN_S = 20.0
ANSWER_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One provider: a small model there, and the environment it needs (of each group, one name)."""

    provider: str
    model: str
    needs: tuple[tuple[str, ...], ...]

    def missing(self, environ: Mapping[str, str]) -> list[str]:
        """Name what must be set before it can be called."""
        return [" or ".join(group) for group in self.needs if not any(environ.get(name) for name in group)]


TRIALS = (
    Trial("openai", "openai/gpt-4o-mini", (("OPENAI_API_KEY",),)),
    Trial("anthropic", "anthropic/claude-haiku-4-5", (("ANTHROPIC_API_KEY", "CLAUDE_API_KEY"),)),
    Trial("gemini", "gemini/gemini-2.5-flash", (("GEMINI_API_KEY", "GOOGLE_API_KEY"),)),
    Trial("groq", "groq/llama-3.1-8b-instant", (("GROQ_API_KEY",),)),
    Trial("mistral", "mistral/mistral-small-latest", (("MISTRAL_API_KEY",),)),
    Trial(
        "together",
        "together_ai/meta-llama/Llama-3.3-70B-Instruct-Turbo",
        (("TOGETHERAI_API_KEY", "TOGETHER_API_KEY"),),
    ),
    Trial("cohere", "cohere/command-r7b-12-2024", (("COHERE_API_KEY",),)),
    Trial(
        "azure",
        "azure/gpt-4o-mini",
        (("AZURE_API_KEY", "AZURE_OPENAI_API_KEY"), ("AZURE_API_BASE", "AZURE_OPENAI_ENDPOINT")),
    ),
    Trial(
        "bedrock",
        "bedrock/amazon.nova-micro-v1:0",
        (("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_BEARER_TOKEN_BEDROCK"), ("AWS_REGION_NAME", "AWS_REGION")),
    ),
    Trial("xai", "xai/grok-3-mini", (("XAI_API_KEY", "GROK_API_KEY"),)),
    Trial("ollama", "ollama/llama3.2", (("OLLAMA_API_BASE", "OLLAMA_ENDPOINT"),)),
)


@contextlib.contextmanager
def gateway(environ: Mapping[str, str]) -> Iterator[openai.OpenAI]:
    """Run a gateway with no catalog, on a port of its own, and give a client for it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {"LLMGATEWAY_HOST": "127.0.0.1", "LLMGATEWAY_PORT": str(port), "LLMGATEWAY_LOG_LEVEL": "warning"}
    command = [str(Path(sys.executable).with_name("llmgateway")), "serve"]
    with tempfile.TemporaryDirectory() as folder:
        inherited = {name: value for name, value in environ.items() if not re.search(r"(^|_)PORT$", name)}
        server = subprocess.Popen(command, cwd=folder, env={**inherited, **own})  # noqa: S603  the arguments are ours
        try:
            wait_until_healthy(server, f"http://127.0.0.1:{port}/health")
            with openai.OpenAI(
                base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0, timeout=ANSWER_WITHIN_S
            ) as client:
                yield client
        finally:
            server.terminate()
            server.wait(60)


def wait_until_healthy(server: subprocess.Popen[bytes], url: str) -> None:
    """Return when the gateway answers.

    Raises:
        RuntimeError: It ended, or was not there in time.
    """
    give_up = time.monotonic() + START_WITHIN_S
    while server.poll() is None and time.monotonic() < give_up:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):  # noqa: S310  our own address
            return
        time.sleep(0.1)
    raise RuntimeError("the gateway did not start; what it wrote is above")


def chat(client: openai.OpenAI, model: str) -> str:
    """Ask once and describe the answer."""
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": QUESTION}])
    text = answer.choices[0].message.content
    if not text or answer.usage is None:
        raise ValueError(f"no text or no usage in {answer!r}")
    return f"{text.strip()[:40]!r}, {answer.usage.total_tokens} tokens"


def stream(client: openai.OpenAI, model: str) -> str:
    """Ask for a stream and describe what came."""
    chunks = list(
        client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": QUESTION}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    if not text or not any(chunk.usage for chunk in chunks):
        raise ValueError(f"no text or no usage in {chunks!r}")
    return f"{text.strip()[:40]!r} in {len(chunks)} chunks"


STEPS: Mapping[str, Callable[[openai.OpenAI, str], str]] = {"chat": chat, "stream": stream}


def attempt(client: openai.OpenAI, model: str) -> bool:
    """Take every step with one model and print how it went; `True` when all went well."""
    well = True
    for name, step in STEPS.items():
        began = time.perf_counter()
        try:
            outcome = f"ok: {step(client, model)}"
        except (openai.APIError, ValueError) as error:
            well, outcome = False, f"FAILED: {error}"
        print(f"    {name}: {outcome} ({time.perf_counter() - began:.2f} s)", flush=True)
    return well


def main(given: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Try the providers; the exit code is 1 when one failed, 2 when none could be called.

    Args:
        given: The command line; `None` takes the process's.
        environ: Where the keys are; `None` is the process's environment and `.env`.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="comma list of providers")
    parser.add_argument("--model", action="append", default=[], metavar="PROVIDER=MODEL", help="another model there")
    arguments = parser.parse_args(given)
    models = dict(pair.split("=", 1) for pair in arguments.model)
    chosen = [trial for trial in TRIALS if not arguments.only or trial.provider in arguments.only.split(",")]
    environ = environment() if environ is None else environ
    outcomes = []
    with gateway(environ) as client:
        for number, trial in enumerate(chosen, 1):
            model = models.get(trial.provider, trial.model)
            print(f"{number} of {len(chosen)}  {trial.provider}: {model}", flush=True)
            if missing := trial.missing(environ):
                print(f"    not called: set {' and '.join(missing)}")
            else:
                outcomes.append(attempt(client, model))
    print(
        f"{sum(outcomes)} of {len(outcomes)} called providers answered; {len(chosen) - len(outcomes)} were not called."
    )
    return 2 if not outcomes else int(not all(outcomes))


if __name__ == "__main__":
    sys.exit(main())
