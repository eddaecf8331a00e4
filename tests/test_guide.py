"""What the users' guide to documents shows and says (docs/documents.md) is so."""

import json
import re
import sys
from pathlib import Path

import anyio
import msgspec

from llmgateway.documents_api.entities.fields import NewFlavor
from llmgateway.flavor import Flavor
from tests.api.ledger.books import ready
from tests.conftest import Serve

GUIDE = (Path(__file__).resolve().parent.parent / "docs" / "documents.md").read_text()
ADDRESS = "http://127.0.0.1:8000"
ROWS = {
    name: (values.strip(), default.strip())
    for name, values, default in re.findall(
        r"^\| `(\w+)` \| ([^|]*)\| ([^|]*)\|", GUIDE.partition("\n## Flavors\n")[2].partition("\n## ")[0], re.MULTILINE
    )
}
NUMBER = re.compile(r"[\d,]+(?:\.\d+)?")


def test_every_field_of_a_flavor_is_there_with_its_default() -> None:
    usual = json.loads(msgspec.json.encode(Flavor(model="auto")))

    assert ROWS.keys() == {"name", *usual}
    told = {name: json.loads(default.strip("`")) for name, (_, default) in ROWS.items() if default}
    assert told == {name: value for name, value in usual.items() if name != "model"}


def test_every_range_is_what_is_checked() -> None:
    told, checked = {}, {}
    for name, given in NewFlavor.model_json_schema()["properties"].items():
        forms = (given, *given.get("anyOf", []))
        limits = next((one for one in forms if {"minimum", "exclusiveMinimum"} & one.keys()), None)
        if limits is None:
            continue
        least = float(limits.get("minimum", limits.get("exclusiveMinimum")))
        # More money than anybody has is no rule for people.
        checked[name] = [least] if name == "max_cost_usd" else [least, float(limits["maximum"])]
        told[name] = [float(number.replace(",", "")) for number in NUMBER.findall(ROWS[name][0])]
        assert ROWS[name][0].startswith("above") is ("exclusiveMinimum" in limits), name

    assert told == checked
    assert len(told) >= 11


async def test_examples_are_answered(gateway: Serve) -> None:
    served = await gateway()
    await ready(served)
    (url, body), (watching,) = (
        re.findall(r"^curl (\S+) -H 'Content-Type: application/json' \\\n +-d '(.+)'$", GUIDE, re.MULTILINE)[0],
        re.findall(r"^curl --no-buffer (\S+)$", GUIDE, re.MULTILINE),
    )

    ordered = await served.client.post(url.removeprefix(ADDRESS), json=json.loads(body))
    events = await served.client.get(watching.removeprefix(ADDRESS).replace("$JOB", ordered.json()["job_id"]))

    assert ordered.status_code == 202
    assert ordered.json()["flavor_name"] == "single-pass"
    assert "event: complete" in events.text


async def test_the_openai_example_prints_a_summary_and_what_it_took(gateway: Serve) -> None:
    served = await gateway()
    await ready(served)
    (example,) = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)

    ran = await anyio.run_process([sys.executable, "-c", example.replace(ADDRESS, served.url)])

    assert "We ship on Friday." in ran.stdout.decode()
    assert ran.stdout.decode().endswith("tokens\n")


async def test_every_path_that_is_named_is_served(gateway: Serve) -> None:
    served = await gateway()
    described = (await served.client.get("/openapi.json")).json()["paths"]
    shapes = {re.sub(r"{\w+}", "{}", path) for path in described}

    named = set(re.findall(r"`(?:\w+ )?(/api/v1/[\w{}/-]+)", GUIDE)) | set(re.findall(r"`\w* ?(/v1/\w+)", GUIDE))

    assert len(named) > 10
    assert {path for path in named if re.sub(r"{\w+}", "{}", path) not in shapes} == set()
