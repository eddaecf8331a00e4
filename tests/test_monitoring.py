"""Dashboards, alerts and their document, against the table of metrics and on a real Prometheus."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import yaml

from llmgateway.telemetry.metrics.families import FAMILIES, GENAI, Family
from tests import services
from tests.api.ledger.books import ready
from tests.conftest import Serve
from tests.running import NO_TLS, Running
from tests.upstreams.openai_wire import OpenAIWire
from tests.upstreams.server import Player

ROOT = Path(__file__).resolve().parent.parent
PROMETHEUS_FILE = ROOT / "prometheus.yml"
ALERTS_FILE = ROOT / "deploy" / "prometheus" / "alerts.yml"
DASHBOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "grafana" / "dashboards").glob("*.json"))
}
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(ALERTS_FILE.read_text())["groups"] for rule in group["rules"]
]
DOCUMENT = (ROOT / "docs" / "observability.md").read_text()

BY_NAME = {family.name: family for family in FAMILIES}
# Prometheus makes these itself.
ITS_OWN = {"up", "ALERTS"}
ITS_LABELS = {"le", "job", "instance", "alertstate"}
PROMPT = [{"role": "user", "content": "Good morning to everybody who reads this"}]
METRIC = re.compile(r"\b(llm_\w+|process_\w+|up|ALERTS)\b(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
# What Grafana puts in before it asks.
PUT_IN = {"$__rate_interval": "15s", "$__range": "1m", "$model": ".*", "$provider": ".*", "$instance": ".*"}

# Series that the traffic below has none of, each with the reason; whatever else a query names must be there.
NOT_PROVOKED = {
    'status="500"': "no fault of the gateway is known to provoke one",
    'status="503",provider="none"': "nor is this gateway full",
    'alertstate="firing"': "Prometheus's own, and only while an alert fires",
    "llm_hedges_total": "a second deployment is asked only after many calls have shown how long they take",
    'llm_rescues_total{result="failed"}': "what rescues is well",
}
SERVICE = "summarize"


@dataclass(frozen=True, slots=True)
class Query:
    """One expression, and where it stands."""

    place: str
    expr: str

    def put_in(self) -> str:
        """The expression as Grafana sends it."""
        expr = self.expr
        for name, value in PUT_IN.items():
            expr = expr.replace(name, value)
        return expr


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (panel for panel in dashboard["panels"] if panel["type"] != "row")


PANELS = [(name, panel) for name, dashboard in DASHBOARDS.items() for panel in panels(dashboard)]
PANEL_QUERIES = [
    Query(f"{name}: {panel['title']}: {target['legendFormat']}", target["expr"])
    for name, panel in PANELS
    for target in panel["targets"]
]
ALERT_QUERIES = [Query(rule["alert"], rule["expr"]) for rule in RULES]
QUERIES = PANEL_QUERIES + ALERT_QUERIES


def family_of(metric: str) -> Family | None:
    """The family that a series belongs to: a histogram's are its buckets, count and sum."""
    family = BY_NAME.get(metric)
    if family is not None:
        return None if family.kind == "histogram" else family
    stem = re.sub(r"_(bucket|count|sum)$", "", metric)
    family = BY_NAME.get(stem)
    return family if family is not None and family.kind == "histogram" else None


def selectors(expr: str) -> Iterator[tuple[str, str]]:
    """Every metric that an expression names, with its matchers."""
    return ((found[1], found[2] or "") for found in METRIC.finditer(expr))


def test_there_is_a_dashboard_for_each_question() -> None:
    assert set(DASHBOARDS) == {"traffic", "providers", "cost", "jobs", "gateway", "protect"}
    assert {dashboard["uid"] for dashboard in DASHBOARDS.values()} == {f"llmgateway-{name}" for name in DASHBOARDS}
    for dashboard in DASHBOARDS.values():
        assert dashboard["tags"] == ["llmgateway"]
        assert dashboard["schemaVersion"] >= 39
        assert dashboard["links"][0]["tags"] == ["llmgateway"], "each leads to the others"
        assert "${DS_" not in json.dumps(dashboard), "a provisioned dashboard cannot ask for its data source"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_lie_beside_each_other(name: str) -> None:
    placed = [(panel["title"], panel["gridPos"]) for panel in DASHBOARDS[name]["panels"]]

    ids = [panel["id"] for panel in DASHBOARDS[name]["panels"]]
    assert len(ids) == len(set(ids))
    assert [title for title, at in placed if at["x"] < 0 or at["w"] < 1 or at["x"] + at["w"] > 24] == []
    assert [(one, two) for (one, a), (two, b) in combinations(placed, 2) if overlap(a, b)] == []


def overlap(a: dict[str, int], b: dict[str, int]) -> bool:
    beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
    above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
    return not (beside or above)


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=[f"{name}: {panel['title']}" for name, panel in PANELS])
def test_panel_says_what_it_shows_in_which_unit_and_what_to_do(name: str, panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]

    shows, act = panel["description"].split("\n\n**When it looks bad:** ")
    assert len(shows) > 10
    assert len(act) > 10
    assert defaults["unit"]
    assert defaults["thresholds"]["steps"][0]["value"] is None
    assert panel["targets"]
    assert all(target["legendFormat"] for target in panel["targets"])
    used = set(re.findall(r"\$([a-z]\w*)", json.dumps(panel["targets"])))
    assert used <= {variable["name"] for variable in DASHBOARDS[name]["templating"]["list"]}


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.place)
def test_query_asks_for_what_the_table_of_metrics_has(query: Query) -> None:
    asked = list(selectors(query.expr))

    assert asked
    for metric, matchers in asked:
        family = family_of(metric)
        assert metric in ITS_OWN or family is not None, f"no metric is named {metric}"
        if family is not None:
            assert_fits(family, matchers)
    labels = {label for metric, _ in asked if (family := family_of(metric)) for label in family.labels}
    grouped = {
        label.strip() for names in re.findall(r"\bby \(([^)]*)\)", query.expr) for label in names.split(",") if label
    }
    assert grouped <= labels | ITS_LABELS


def assert_fits(family: Family, matchers: str) -> None:
    """See that the family has each label, and that a value of it that is known beforehand can match."""
    for label, how, value in MATCHER.findall(matchers):
        assert label in {*family.labels, *ITS_LABELS}, f"{family.name} has no label {label}"
        known = family.values.get(label)
        if known and not value.startswith("$"):
            pattern = value if "~" in how else re.escape(value)
            assert any(re.fullmatch(pattern, possible) for possible in known), (
                f"{family.name}: {label} is never {value}"
            )


def test_every_metric_is_on_a_panel() -> None:
    shown = {
        family.name for query in PANEL_QUERIES for metric, _ in selectors(query.expr) if (family := family_of(metric))
    }

    assert sorted(set(BY_NAME) - shown) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    told = rule["annotations"]

    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert told["summary"].endswith(".")
    assert len(told["description"]) > 40
    assert told["dashboard"] in {dashboard["uid"] for dashboard in DASHBOARDS.values()}
    # What is lost is lost at once; everything else may pass by itself.
    assert ("for" in rule) is (rule["alert"] != "LedgerLoss")


def test_document_has_every_metric_with_its_labels_and_no_other() -> None:
    table = DOCUMENT.split("## Metrics")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", table, re.MULTILINE))

    assert set(rows) == set(BY_NAME)
    for name, labels in rows.items():
        assert re.findall(r"`(\w+)`", labels) == list(BY_NAME[name].labels), name
    mentioned = set(re.findall(r"`(llm_\w+_(?:total|seconds|bytes|ratio))\b", DOCUMENT))
    assert mentioned <= set(BY_NAME)


def first_column(table: str) -> set[str]:
    """What stands in backticks in the first cell of each row."""
    cells = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([\w.]+)`", cell)}


def test_document_has_every_attribute_of_a_span_and_no_other() -> None:
    table = DOCUMENT.split("| Attribute | On |")[1].split("\n\n")[0]
    told = {
        name for row in re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE) for name in re.findall(r"`([\w.]+)`", row)
    }
    names = r'"((?:gen_ai|llmgateway|http|url|server|error)\.[a-z_.]+)"'
    package = ROOT / "src" / "llmgateway"
    sources = [*(package / "telemetry" / "traces").glob("*.py"), package / "jobs" / "telling.py"]

    assert told == {name for path in sources for name in re.findall(names, path.read_text())}


def test_document_has_every_metric_that_goes_over_otlp() -> None:
    metrics = DOCUMENT.split("## Metrics")[1].split("\n## ")[0]
    told = set(re.findall(r"`(gen_ai\.[\w.]+)`", metrics))
    source = (ROOT / "src" / "llmgateway" / "telemetry" / "metrics" / "genai.py").read_text()
    reused = set(re.findall(r'"(gen_ai\.server\.[\w.]+)"', source))

    assert told == {family.name for family in GENAI} | reused


def test_document_has_every_log_line_and_no_other() -> None:
    told = first_column(DOCUMENT.split("## Log lines")[1].split("\n## ")[0])
    sources = [path.read_text() for path in (ROOT / "src" / "llmgateway").rglob("*.py")]
    levels = "debug|info|warning|error|critical|exception"
    calls = rf'(?:logger\.(?:{levels})\(|write\(|_report\(|line_begun\([^,]+,)\s*"([a-z]+_?\w*)"'

    assert told == {name for source in sources for name in re.findall(calls, source)} | {"log_lines_dropped"}


def test_document_has_every_alert_and_names_panels_that_exist() -> None:
    titles = {panel["title"] for _, panel in PANELS}
    questions = DOCUMENT.split("## Five questions")[1].split("\n## ")[0]

    assert set(re.findall(r"^\| `([A-Z]\w+)` \|", DOCUMENT, re.MULTILINE)) == {rule["alert"] for rule in RULES}
    assert len(re.findall(r"^### ", questions, re.MULTILINE)) == 5
    named = re.findall(r"\*\*([^*]+)\*\*", questions)
    assert named
    assert [name for name in named if name not in titles] == []


def test_prometheus_takes_the_committed_configuration() -> None:
    checked = services.promtool("check", "config", str(PROMETHEUS_FILE))

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(RULES)} rules found" in checked.stdout


def test_alerts_fire_when_they_must_and_keep_silent_when_they_must_not() -> None:
    tried = services.promtool("test", "rules", str(ROOT / "tests" / "alerts.yml"))

    assert tried.returncode == 0, tried.stdout + tried.stderr


@dataclass
class Prometheus:
    """A running Prometheus, asked over its API."""

    url: str
    client: httpx2.AsyncClient

    async def ask(self, expr: str) -> list[dict[str, Any]]:
        """Evaluate an expression now; the series it gives."""
        answer = await self.client.post(f"{self.url}/api/v1/query", data={"query": expr})
        told = answer.json()
        assert told["status"] == "success", f"{expr}: {told}"
        found: list[dict[str, Any]] = told["data"]["result"]
        return found

    async def number(self, expr: str) -> float:
        """Evaluate an expression that gives one number; 0 when it gives none."""
        found = await self.ask(expr)
        return float(found[0]["value"][1]) if found else 0.0

    async def until(self, expr: str, wanted: float, within_s: float = 20.0) -> None:
        """Wait until an expression gives this number."""
        got = 0.0
        try:
            with anyio.fail_after(within_s):
                while (got := await self.number(expr)) != wanted:  # noqa: ASYNC110  it tells nobody when it scrapes
                    await anyio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{expr} is {got}, not {wanted}") from None


def configuration(gateway_url: str, own_port: int) -> str:
    """The committed configuration, with the hosts and intervals of a test and the rules where they lie."""
    config = yaml.safe_load(PROMETHEUS_FILE.read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(ROOT / path) for path in config["rule_files"]]
    hosts = {"gateway:8000": gateway_url.removeprefix("http://"), "127.0.0.1:9090": f"127.0.0.1:{own_port}"}
    # The gateway runs its jobs itself.
    config["scrape_configs"] = [job for job in config["scrape_configs"] if job["job_name"] != "worker"]
    for job in config["scrape_configs"]:
        for static in job["static_configs"]:
            static["targets"] = [hosts[target] for target in static["targets"]]
    text: str = yaml.safe_dump(config)
    return text


AT_BROKEN, AT_MAIN = ({"provider": name, "model": "gpt-4o"} for name in ("broken", "main"))


@dataclass
class Upstreams:
    """Two providers that answer, one that fails, one that limits us; and one that is not there at all."""

    main: Player
    house: Player
    broken: Player
    limiting: Player

    def catalog(self) -> str:
        bases = {name: player.base for name, player in vars(self).items()}
        bases["absent"] = f"http://127.0.0.1:{services.free_port()}/v1"
        models = {"chat": ("main", "gpt-4o"), "local": ("house", "our-own-7b")}
        models |= {name: (name, "gpt-4o") for name in ("broken", "limiting", "absent")}
        models["limited"] = ("main", "gpt-4o")
        ways: list[dict[str, object]] = [
            {"name": "paired", "deployments": [AT_BROKEN, AT_MAIN]},
            {"name": "replaced", "deployments": [AT_BROKEN], "fallbacks": {"any": ["chat"]}},
            {"name": "rescued", "deployments": [{"provider": "house", "model": "our-own-7b"}, AT_MAIN], "rescue": True},
        ]
        return yaml.safe_dump(
            {
                "providers": {
                    name: {"provider": "openai", "api_key": "${KEY:-sk-upstream}", "api_base": base}
                    for name, base in bases.items()
                },
                "models": [
                    {"name": name, "deployments": [{"provider": provider, "model": model}]}
                    for name, (provider, model) in models.items()
                ]
                + [{"strategy": "priority", **way} for way in ways],
                "limits": {"models": {"limited": {"requests_per_day": 1}}},
            }
        )


@pytest.fixture
async def upstreams() -> AsyncIterator[Upstreams]:
    async with AsyncExitStack() as stack:
        wire = OpenAIWire()
        played = Upstreams(*[await stack.enter_async_context(Player(wire)) for _ in range(4)])
        played.broken.always(wire.error(500, "The server had an error"))
        played.limiting.always(wire.error(429, "Rate limit reached", code="rate_limit_exceeded"))
        yield played


async def call(gateway: Running, model: str, *, stream: bool = False) -> int:
    """Ask and read to the end, whatever comes."""
    body = {"model": model, "messages": PROMPT, "stream": stream}
    return (await gateway.client.post("/v1/chat/completions", json=body)).status_code


async def leave(gateway: Running, player: Player, *, pieces: int) -> None:
    """Ask for a stream that gets stuck, and go when it does."""
    player.script(lambda step: step.silent(pieces=pieces) if pieces else step.delayed(60))
    left = len(player.cancels)
    body = {"model": "chat", "messages": PROMPT, "stream": True}
    async with anyio.create_task_group() as group:
        if pieces:
            async with gateway.client.stream("POST", "/v1/chat/completions", json=body) as answer:
                async for _ in answer.aiter_bytes():
                    break
        else:
            group.start_soon(lambda: gateway.client.post("/v1/chat/completions", json=body))
            await player.until(lambda: player.in_flight == 1)
            group.cancel_scope.cancel()
    await player.until(lambda: len(player.cancels) > left)


async def run_job(gateway: Running) -> list[int]:
    """Run a document service as a model; gives the statuses of its calls of models, and its own."""
    status = await call(gateway, f"service/{SERVICE}")
    (job, *_) = (await gateway.client.get("/api/v1/jobs", params={"page_size": 1})).json()["items"]
    passes = (await gateway.client.get(f"/api/v1/jobs/{job['id']}/metrics")).json()["passes"]
    assert passes
    return [status, *(200 for _ in passes)]


async def choose_model(gateway: Running) -> None:
    """Let the service ask a provider whose price is known."""
    await ready(gateway)
    service = (await gateway.client.get(f"/api/v1/services/{SERVICE}")).json()
    path = f"/api/v1/flavors/{service['default_flavor_id']}"
    changed = await gateway.client.patch(path, json={"model": "chat"})
    assert changed.status_code == 200, changed.text


async def wave(gateway: Running, upstreams: Upstreams) -> dict[int, int]:
    """Make one of everything. Returns how many calls ended with which status."""
    statuses = [await call(gateway, model, stream=stream) for model in ("chat", "local") for stream in (False, True)]
    upstreams.house.script(lambda step: step.cut(pieces=3))
    statuses += [await call(gateway, "local", stream=True)]
    upstreams.house.script(lambda step: step.cut(pieces=3))
    statuses += [await call(gateway, "rescued", stream=True)]
    statuses += [await call(gateway, model) for model in ("paired", "replaced")]
    statuses += [await call(gateway, model) for model in ("broken", "limiting", "absent", "no-such-model")]
    statuses += [await call(gateway, "limited") for _ in range(2)]
    statuses += await run_job(gateway)
    await leave(gateway, upstreams.main, pieces=2)
    await leave(gateway, upstreams.main, pieces=0)
    statuses += [499, 499]
    return {status: statuses.count(status) for status in set(statuses)}


async def make_traffic(gateway: Running, upstreams: Upstreams, prometheus: Prometheus) -> dict[int, int]:
    """Make traffic in waves, each seen by Prometheus before the next: a rate needs two samples that differ."""
    await prometheus.until('up{job="gateway"}', 1)
    total: dict[int, int] = {}
    for _ in range(3):
        for status, count in (await wave(gateway, upstreams)).items():
            total[status] = total.get(status, 0) + count
        await prometheus.until("sum(llm_requests_total)", sum(total.values()))
    return total


async def faults_of_panels(prometheus: Prometheus) -> list[str]:
    """Name every query of a panel that gives nothing, or no number."""
    faults = []
    for query in PANEL_QUERIES:
        values = [series["value"][1] for series in await prometheus.ask(query.put_in())]
        if not values:
            faults.append(f"{query.place}: empty")
        elif set(values) == {"NaN"}:
            faults.append(f"{query.place}: no number")
    return faults


async def series_not_there(prometheus: Prometheus) -> list[str]:
    """Name every series that a panel asks for and that does not exist: `or vector(0)` would hide it."""
    wanted = {f"{metric}{{{matchers}}}" for query in PANEL_QUERIES for metric, matchers in selectors(query.put_in())}
    asked = [one for one in sorted(wanted) if not any(known in one for known in NOT_PROVOKED)]
    return [one for one in asked if not await prometheus.ask(one)]


@pytest.mark.timeout(120)
async def test_every_panel_shows_something_after_traffic_with_a_failing_provider(
    gateway: Serve, upstreams: Upstreams, tmp_path: Path
) -> None:
    settings = {"limits__enabled": True, "limits__requests_per_minute": 100_000, "limits__burst": 10_000}
    g = await gateway(upstreams.catalog(), retry__max_retries=1, **settings)
    await choose_model(g)
    port = services.free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(configuration(g.url, port))
    with services.prometheus_server(config, port) as server:
        async with httpx2.AsyncClient(timeout=20, verify=NO_TLS) as client:
            prometheus = Prometheus(server.url, client)
            statuses = await make_traffic(g, upstreams, prometheus)

            assert await faults_of_panels(prometheus) == []
            assert await series_not_there(prometheus) == []
            for query in ALERT_QUERIES:
                await prometheus.ask(query.put_in())
            await assert_that_the_cause_is_seen(prometheus, statuses)
            await assert_that_nothing_is_lost(prometheus, sum(statuses.values()))
            await assert_that_jobs_are_counted_once(prometheus)
            rules = (await client.get(f"{server.url}/api/v1/rules")).json()["data"]["groups"]
            assert {rule["health"] for group in rules for rule in group["rules"]} <= {"ok", "unknown"}
            assert await prometheus.number("count(up == 1)") == 2


async def assert_that_the_cause_is_seen(prometheus: Prometheus, statuses: dict[int, int]) -> None:
    """An operator sees that providers and clients fail and the gateway does not."""
    assert statuses[502] > 3
    assert not statuses.get(500)
    for status, count in statuses.items():
        assert await prometheus.number(f'sum(llm_requests_total{{status="{status}"}})') == count
    cause = {
        query.place.rpartition(": ")[2]: query for query in PANEL_QUERIES if "Failing calls by cause" in query.place
    }
    assert await prometheus.number(cause["ours"].put_in()) == 0
    assert await prometheus.number(cause["a provider's"].put_in()) > 0
    assert await prometheus.number(cause["a client's"].put_in()) > 0
    failing = await prometheus.ask('sum by (provider) (llm_attempts_total{outcome=~"provider_.+"}) > 0')
    assert {"broken", "absent", "limiting"} <= {series["metric"]["provider"] for series in failing}
    assert "main" not in {series["metric"]["provider"] for series in failing}


async def assert_that_jobs_are_counted_once(prometheus: Prometheus) -> None:
    """What a job takes is told by service, and is in the sums of all calls once: as its calls', not its request's."""
    told = f'service="{SERVICE}"'
    assert await prometheus.number(f'sum(llm_jobs_total{{{told},outcome="completed"}})') == 3
    assert await prometheus.number(f'sum(llm_jobs_total{{{told},outcome="failed"}})') == 0
    assert await prometheus.number(f"sum(llm_job_wait_seconds_count{{{told}}})") == 3
    assert await prometheus.number(f"sum(llm_job_passes_total{{{told}}})") >= 3
    assert await prometheus.number(f'sum(llm_job_tokens_total{{{told},organization="none"}})') > 0
    assert await prometheus.number(f"sum(llm_job_cost_usd_total{{{told}}})") > 0
    for name in ("llm_tokens_total", "llm_cost_usd_total", "llm_price_unknown_total"):
        assert await prometheus.number(f'sum({name}{{model=~"service/.*"}})') == 0
    assert await prometheus.number("sum(max by (priority) (llm_queue_depth)) + sum(llm_jobs_running)") == 0


async def assert_that_nothing_is_lost(prometheus: Prometheus, calls: int) -> None:
    """Metrics and ledger agree, and the database has what the journal had."""
    await prometheus.until('sum(llm_ledger_entries_total{result="shipped"})', calls)
    assert await prometheus.number('sum(llm_ledger_entries_total{result="journaled"})') == calls
    assert await prometheus.number('sum(llm_ledger_entries_total{result="lost"})') == 0
    assert await prometheus.number("llm_database_up") == 1
    assert await prometheus.number("llm_active_requests + llm_active_streams") == 0
