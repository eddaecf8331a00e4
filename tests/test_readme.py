"""What the README shows works as it stands there."""

import json
import re
import shlex
import sys
from pathlib import Path

import anyio
import pytest

from llmgateway.catalog.providers import Provider, providers
from scripts.try_providers import TRIALS
from tests.api.ledger.books import ready
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


def document_curls() -> list[list[str]]:
    """Every curl example of the section on documents: its arguments."""
    section = README.partition("\n## Documents\n")[2].partition("\n## ")[0]
    return [shlex.split(line)[1:] for line in re.findall(r"^curl .+$", section, re.MULTILINE)]


def test_examples_are_there() -> None:
    assert len(blocks("python")) == 3
    assert len(curls()) == 5
    assert len(document_curls()) == 5
    assert README.count("curl ") == 10
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


async def test_document_of_the_example_is_planned_run_watched_read_and_paid_for(gateway: Serve) -> None:
    served = await gateway()
    await ready(served)
    written = re.findall(r"^printf '(.+)' > meeting.txt$", README, re.MULTILINE)[0].replace("\\n", "\n")
    asked, job_id = [], ""
    for arguments in document_curls():
        flags = [one for one in arguments if not one.startswith("http")]
        (url,) = [one.removeprefix(ADDRESS) for one in arguments if one.startswith(ADDRESS)]
        if "-F" in flags:
            assert flags == ["-F", "file=@meeting.txt"]
            answer = await served.client.post(url, files={"file": ("meeting.txt", written.encode())})
            job_id = answer.json().get("job_id", "")
        else:
            answer = await served.client.get(url.replace("$JOB", job_id))
        assert answer.status_code in {200, 202}, answer.text
        asked.append(answer)

    plan, accepted, events, result, metrics = asked
    assert (plan.json()["valid"], plan.json()["estimated_cost"]) == (True, {"low": 0.0, "high": 0.0})
    assert plan.json()["calls"] == len(metrics.json()["passes"])
    assert accepted.status_code == 202
    assert "event: complete" in events.text
    assert "We ship on Friday." in result.text
    assert metrics.json()["totals"]["cost"] == 0


async def test_documents_example_prints_minutes_and_says_who_wrote_them(gateway: Serve, tmp_path: Path) -> None:
    served = await gateway()
    await ready(served)
    (tmp_path / "meeting.txt").write_text("Ada: We ship on Friday.\nBen: Then I write the notes today.\n")

    example = blocks("python")[1].replace(ADDRESS, served.url)
    ran = await anyio.run_process([sys.executable, "-c", example], cwd=tmp_path)

    assert "We ship on Friday." in ran.stdout.decode()
    assert "demo model" in ran.stdout.decode()


async def test_services_that_are_named_are_there(gateway: Serve) -> None:
    served = await gateway()
    await ready(served)
    section = README.partition("\n## Documents\n")[2].partition("A run is a **job**")[0]

    listed = (await served.client.get("/api/v1/services")).json()["items"]

    routes = {service["route"] for service in listed}
    assert set(re.findall(r"`([\w-]+)`", section)) | {"meeting-minutes"} == routes


async def test_example_without_a_server_prints_the_answer(tmp_path: Path) -> None:
    ran = await anyio.run_process([sys.executable, "-c", blocks("python")[2]], cwd=tmp_path)

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
