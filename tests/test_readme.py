"""What the README shows works as it stands there."""

import json
import re
import sys
from pathlib import Path

import anyio
import pytest

from llmgateway.catalog.providers import Provider, providers
from scripts.try_providers import TRIALS
from tests.conftest import Serve
from tests.e2e.made_keys import ADMIN_KEY, make_key

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()
ADDRESS = "http://127.0.0.1:8000"
TABLE = re.findall(r"^\| ([^|]+) \| ([^|]+) \| `([^`|]+)`[^|]* \| (relayed|translated) \|$", README, re.MULTILINE)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def curls() -> list[tuple[str, str]]:
    """Every curl example: its URL and its body."""
    shell = "\n".join(blocks("sh"))
    own_key = r"(?: +-H \"[^\"]+\" \\\n)?"
    return re.findall(
        r"^curl (?:--no-buffer )?(\S+) -H 'Content-Type: application/json' \\\n" + own_key + r" +-d '(.+)'$",
        shell,
        re.MULTILINE,
    )


def variables_of(row: Provider) -> set[str]:
    """Every environment variable that is read for a provider."""
    options = (name for names in row.option_env.values() for name in names)
    return {*row.key_env, *row.address_env, *row.login_env, *options}


def test_examples_are_there() -> None:
    assert len(blocks("python")) == 2
    assert len(curls()) == README.count("curl ") == 5
    assert len(TABLE) == 11


async def test_curl_examples_are_answered(gateway: Serve) -> None:
    served = await gateway()
    plain, streamed, real, route, _ = [(url.removeprefix(ADDRESS), json.loads(body)) for url, body in curls()]

    answer = await served.client.post(plain[0], json=plain[1])
    stream = await served.client.post(streamed[0], json=streamed[1])
    without_key = await served.client.post(real[0], json=real[1])

    assert answer.json()["choices"][0]["message"]["content"] == "Hello, gateway!"
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.text.endswith("data: [DONE]\n\n")
    assert without_key.status_code == 404
    plan = (await served.client.post(route[0], json=route[1])).json()
    assert (route[0], plan["decision"]["deployment"]) == ("/v1/route", "demo/echo")


async def test_key_of_the_example_is_made_and_used(gateway: Serve) -> None:
    served = await gateway(auth__mode="client", admin_key=ADMIN_KEY)
    url, body = curls()[-1]
    assert url == f"{ADDRESS}/admin/keys"

    made = await make_key(served.url, **json.loads(body))

    mine = {"authorization": f"Bearer {made['key']}"}
    assert (await served.client.get("/v1/models", headers=mine)).status_code == 200
    assert made["budget"]["usd"] == 50


async def test_openai_example_prints_the_answer_twice(gateway: Serve) -> None:
    served = await gateway()

    ran = await anyio.run_process([sys.executable, "-c", blocks("python")[0].replace(ADDRESS, served.url)])

    assert ran.stdout.decode().split() == ["Hello,", "gateway!"] * 2


async def test_example_without_a_server_prints_the_answer(tmp_path: Path) -> None:
    ran = await anyio.run_process([sys.executable, "-c", blocks("python")[1]], cwd=tmp_path)

    assert ran.stdout.decode() == "Hello, gateway!"


async def test_catalog_example_is_taken(gateway: Serve) -> None:
    (example,) = blocks("yaml")

    served = await gateway(example, environ={"OPENAI_API_KEY": "sk-one", "ANTHROPIC_API_KEY": "sk-two"})

    listed = {model["id"] for model in (await served.client.get("/v1/models")).json()["data"]}
    assert {"chat", "writer"} <= listed


@pytest.mark.parametrize(("title", "variables", "model", "how"), TABLE, ids=[row[0] for row in TABLE])
def test_provider_row_says_what_the_table_has(title: str, variables: str, model: str, how: str) -> None:
    prefixes = {"gpt": "openai", "claude": "anthropic", "gemini": "gemini"}
    name = model.split("/", maxsplit=1)[0] if "/" in model else prefixes[model.split("-", maxsplit=1)[0]]
    row = providers()[name]

    assert set(re.findall(r"[A-Z][A-Z_]+", variables)) <= variables_of(row), title
    assert how == ("translated" if row.wire == "litellm" else "relayed")


def test_every_named_provider_can_be_tried_for_real() -> None:
    assert len(TRIALS) == len(TABLE)
    for trial in TRIALS:
        row = providers()[trial.model.split("/")[0]]
        assert {name for group in trial.needs for name in group} <= variables_of(row)
        assert trial.missing({}) == [" or ".join(group) for group in trial.needs]
