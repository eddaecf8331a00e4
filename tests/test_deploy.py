"""What runs the gateway elsewhere: image, compose file, Kubernetes, systemd, Caddy, monitoring, Makefile."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmgateway.cli import _parser
from llmgateway.settings import fields, load_settings, name_of
from llmgateway.telemetry.traces import otlp_settings
from llmgateway.telemetry.traces.otlp_settings import read_otlp
from scripts import lock

ROOT = Path(__file__).resolve().parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
MANIFESTS: list[dict[str, Any]] = [
    document
    for path in sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(path.read_text())
]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
GATEWAY, WORKER = "llmgateway", "llmgateway-worker"
UNITS = {name: (ROOT / "deploy" / "systemd" / f"{name}.service").read_text() for name in (GATEWAY, WORKER)}
DEFAULTS = load_settings({})
GRACE_S = DEFAULTS.shutdown_grace_s


both = pytest.mark.parametrize("name", [GATEWAY, WORKER])


def manifest(kind: str, name: str = GATEWAY) -> dict[str, Any]:
    named = (name, "llmgateway-catalog")
    (found,) = [each for each in MANIFESTS if each["kind"] == kind and each["metadata"]["name"] in named]
    return found


def pod(name: str = GATEWAY) -> dict[str, Any]:
    spec: dict[str, Any] = manifest("Deployment", name)["spec"]["template"]["spec"]
    return spec


def container(name: str = GATEWAY) -> dict[str, Any]:
    (found,) = pod(name)["containers"]
    assert isinstance(found, dict)
    return found


def images() -> Iterator[str]:
    yield from re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    yield from (service["image"] for service in SERVICES.values() if "build" not in service)
    yield from (container(name)["image"] for name in (GATEWAY, WORKER))


def test_image_is_built_in_stages_and_runs_as_nobody_special() -> None:
    assert len(re.findall(r"^FROM ", DOCKERFILE, re.MULTILINE)) >= 2
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    user = re.search(r"^USER (\d+):(\d+)$", last, re.MULTILINE)
    assert user
    assert int(user[1]) > 0
    assert "HEALTHCHECK" in last
    assert "/health/live" in last
    assert "STOPSIGNAL SIGTERM" in last
    assert "-slim" in last.splitlines()[1]


def test_image_installs_only_what_is_locked() -> None:
    assert DOCKERFILE.count("--require-hashes") == 2
    assert "COPY . " not in DOCKERFILE


def test_image_sees_every_file_it_copies() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()
    }

    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("image", sorted(set(images()) - {"llmgateway"}))
def test_image_version_is_fixed(image: str) -> None:
    name, _, tag = image.partition(":")

    assert name
    assert re.search(r"\d+\.\d+|\d+-", tag), "say which version"


SHOWN = ("prometheus", "grafana", "jaeger")


def test_compose_file_has_the_known_parts() -> None:
    assert set(COMPOSE) == {"services", "volumes"}
    assert set(SERVICES) == {"gateway", "worker", "redis", "rabbitmq", "postgres", *SHOWN}
    mounted = {mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])}
    assert {name for name in mounted if not name.startswith(".")} == set(COMPOSE["volumes"])
    assert [name for name in mounted if name.startswith(".") and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_compose_service_is_whole(name: str) -> None:
    service = SERVICES[name]

    assert "image" in service
    # The gateway's check is the image's own.
    assert "healthcheck" in service or ("HEALTHCHECK" in DOCKERFILE and "build" in service)
    assert service["restart"] == "unless-stopped"
    assert set(service.get("depends_on", [])) <= set(SERVICES)
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), "only this machine may connect"


@pytest.mark.parametrize("name", ["gateway", "worker"])
def test_compose_service_of_ours_is_closed_in(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert int(service["stop_grace_period"].removesuffix("s")) > GRACE_S


def test_compose_starts_the_gateway_and_what_shows_it_by_default() -> None:
    apart = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}

    assert apart == {
        "worker": ["jobs"],
        "redis": ["jobs", "redis"],
        "postgres": ["jobs"],
        "rabbitmq": ["rabbitmq"],
    }
    # The gateway does not wait for whoever watches it, and none of them needs one that is not started.
    assert "depends_on" not in SERVICES["gateway"]
    assert {other for name in SERVICES for other in SERVICES[name].get("depends_on", []) if name not in apart} & {
        *apart
    } == set()


def test_compose_gateway_sends_its_traces_to_jaeger() -> None:
    otel = {name: value for name, value in SERVICES["gateway"]["environment"].items() if name.startswith("OTEL_")}

    read = read_otlp(otel)

    assert otlp_settings.faults(otel) == []
    assert read.traces is not None
    assert (read.traces.endpoint, read.traces.protocol, read.traces.secure) == ("jaeger:4317", "grpc", False)
    assert read.metrics is None, "Jaeger takes none"
    assert read.sampler.follows_parent
    assert read.sampler.keeps((1 << 128) - 1, parent_sampled=None), "compose is for looking: every request is kept"
    assert {"4317", "4318"} <= set(SERVICES["jaeger"]["expose"])
    assert SERVICES["jaeger"]["ports"] == ["127.0.0.1:16686:16686"]


def test_settings_in_the_manifests_exist() -> None:
    text = "\n".join([DOCKERFILE, *UNITS.values(), yaml.safe_dump(COMPOSE), yaml.safe_dump_all(MANIFESTS)])

    assert set(re.findall(r"\bLLMGATEWAY_[A-Z_]+[A-Z]", text)) <= {name_of(path) for path, _ in fields()}


def test_kubernetes_pod_has_probes_and_drains() -> None:
    here = container()
    paths = {kind: here[kind]["httpGet"]["path"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")}
    waits_s = int(here["lifecycle"]["preStop"]["exec"]["command"][-1])
    settings = {entry["name"]: entry["value"] for entry in here["env"]}

    assert paths == {
        "startupProbe": "/health/live",
        "livenessProbe": "/health/live",
        "readinessProbe": "/health/ready",
    }
    assert pod()["terminationGracePeriodSeconds"] > waits_s + float(settings["LLMGATEWAY_SHUTDOWN_GRACE_S"])
    # Not ready must be known everywhere before the pod ends.
    assert waits_s >= here["readinessProbe"]["periodSeconds"] * here["readinessProbe"]["failureThreshold"]


def test_a_worker_pod_answers_its_probes_and_hands_its_jobs_back() -> None:
    here = container(WORKER)
    settings = {entry["name"]: entry["value"] for entry in here["env"]}

    assert here["args"][0] == "worker"
    assert [port["containerPort"] for port in here["ports"]] == [DEFAULTS.worker_port]
    assert here["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert pod(WORKER)["terminationGracePeriodSeconds"] > float(settings["LLMGATEWAY_SHUTDOWN_GRACE_S"])


def test_the_worker_in_compose_listens_where_it_is_asked_for_its_health_and_figures() -> None:
    worker = SERVICES["worker"]
    scraped = yaml.safe_load((ROOT / "prometheus.yml").read_text())["scrape_configs"]
    (found,) = [each for job in scraped if job["job_name"] == "worker" for each in job["dns_sd_configs"]]

    assert main_options(worker["command"])["worker_port"] == str(found["port"]) == worker["expose"][0]
    assert found["names"] == ["worker"]
    assert f"127.0.0.1:{found['port']}/health/live" in " ".join(worker["healthcheck"]["test"])


def main_options(command: list[str]) -> dict[str, Any]:
    """What the program's command line makes of this."""
    return vars(_parser().parse_args(command))


@both
def test_kubernetes_pod_is_closed_in_and_bounded(name: str) -> None:
    assert pod(name)["securityContext"]["runAsNonRoot"] is True
    assert f"USER {pod(name)['securityContext']['runAsUser']}:" in DOCKERFILE
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container(name)["resources"]["requests"]) == {"cpu", "memory"}
    assert "memory" in container(name)["resources"]["limits"]
    mounts = {mount["name"] for mount in container(name)["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod(name)["volumes"]}


@both
def test_kubernetes_objects_find_each_other(name: str) -> None:
    labels = manifest("Deployment", name)["spec"]["template"]["metadata"]["labels"]

    assert manifest("PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"] == labels
    assert manifest("NetworkPolicy", name)["spec"]["podSelector"]["matchLabels"] == labels
    (catalog,) = [volume["configMap"]["name"] for volume in pod(name)["volumes"] if "configMap" in volume]
    assert manifest("ConfigMap")["metadata"]["name"] == catalog
    replicas = manifest("Deployment", name)["spec"]["replicas"]
    assert manifest("PodDisruptionBudget", name)["spec"]["minAvailable"] < replicas
    # Requests go to the gateway's pods alone.
    assert (manifest("Service")["spec"]["selector"] == labels) is (name == GATEWAY)


@both
def test_systemd_unit_waits_for_what_is_running(name: str) -> None:
    unit = UNITS[name]
    timeout = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    command = re.search(r"^ExecStart=/opt/llmgateway/.venv/bin/llmgateway (.+)$", unit, re.MULTILINE)

    assert timeout
    assert int(timeout[1]) > GRACE_S
    assert "DynamicUser=yes" in unit
    assert "ExecReload=/bin/kill -HUP $MAINPID" in unit
    assert command
    assert main_options(command[1].split())["command"] == ("serve" if name == GATEWAY else "worker")


def test_both_systemd_units_are_the_same_user_who_owns_what_they_share() -> None:
    # Without another name a dynamic user has the unit's.
    assert "User=llmgateway\n" in UNITS[WORKER]
    for unit in UNITS.values():
        assert "StateDirectory=llmgateway\n" in unit
        assert "LLMGATEWAY_DATA_DIR=/var/lib/llmgateway\n" in unit


def test_caddy_passes_chunks_at_once_and_waits_longer_than_the_gateway() -> None:
    caddyfile = (ROOT / "deploy" / "Caddyfile").read_text()
    waits = re.search(r"response_header_timeout (\d+)s", caddyfile)

    assert "flush_interval -1" in caddyfile
    assert waits
    assert int(waits[1]) > DEFAULTS.request_timeout_s


def test_caddy_keeps_what_is_for_operators_inside() -> None:
    caddyfile = (ROOT / "deploy" / "Caddyfile").read_text()
    inside = re.search(r"@operators path (.+)", caddyfile)

    assert inside
    assert {"/metrics", "/metrics/*", "/v1/health/metrics", "/health/detailed"} <= set(inside[1].split())
    assert caddyfile.index("handle @operators") < caddyfile.index("reverse_proxy")


@both
def test_kubernetes_lets_prometheus_scrape(name: str) -> None:
    template = manifest("Deployment", name)["spec"]["template"]
    ports = [str(port["containerPort"]) for port in container(name)["ports"]]
    entering = [who for rule in manifest("NetworkPolicy", name)["spec"]["ingress"] for who in rule["from"]]

    assert template["metadata"]["annotations"] == {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": ports[0],
        "prometheus.io/path": "/metrics",
    }
    assert any("prometheus" in str(who["podSelector"]) for who in entering)


def test_data_has_a_place_that_outlives_the_process() -> None:
    settings = {entry["name"]: entry["value"] for entry in container()["env"]}
    mounted = {mount["mountPath"] for name in (GATEWAY, WORKER) for mount in container(name)["volumeMounts"]}
    data_dir = re.search(r"LLMGATEWAY_DATA_DIR=(\S+)", DOCKERFILE)

    assert data_dir
    assert settings.get("LLMGATEWAY_DATA_DIR", data_dir[1]) in mounted
    for name in ("gateway", "worker"):
        assert f"gateway-data:{data_dir[1]}" in SERVICES[name]["volumes"]


def test_monitoring_files_fit_together() -> None:
    config = yaml.safe_load((ROOT / "prometheus.yml").read_text())
    sources = [
        source
        for path in (ROOT / "grafana/provisioning/datasources").glob("*.yml")
        for source in yaml.safe_load(path.read_text())["datasources"]
    ]
    folders = yaml.safe_load((ROOT / "grafana/provisioning/dashboards/gateway.yml").read_text())["providers"]
    dashboards = [path.read_text() for path in (ROOT / "grafana/dashboards").glob("*.json")]
    rules = (ROOT / "deploy/prometheus/alerts.yml").read_text()

    jobs = {job["job_name"] for job in config["scrape_configs"]}
    assert "gateway:8000" in config["scrape_configs"][0]["static_configs"][0]["targets"]
    assert set(re.findall(r'job=\\?"(\w+)', "".join([*dashboards, rules]))) <= jobs
    uids = {
        panel["datasource"]["uid"] for text in dashboards for panel in json.loads(text)["panels"] if "targets" in panel
    }
    assert uids <= {source["uid"] for source in sources}
    assert {source["type"]: source["url"] for source in sources} == {
        "prometheus": "http://prometheus:9090",
        "jaeger": "http://jaeger:16686",
    }
    assert [source["uid"] for source in sources if source.get("isDefault")] == ["prometheus"]
    place = folders[0]["options"]["path"]
    assert f"./grafana/dashboards:{place}:ro" in SERVICES["grafana"]["volumes"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "grafana/dashboards" / Path(home).relative_to(place)).exists()


def test_prometheus_in_compose_finds_its_rules_where_its_configuration_names_them() -> None:
    mounts = dict(mount.split(":")[:2] for mount in SERVICES["prometheus"]["volumes"])
    config_folder = Path(mounts["./prometheus.yml"]).parent
    named = yaml.safe_load((ROOT / "prometheus.yml").read_text())["rule_files"]

    for path in named:
        assert mounts[f"./{Path(path).parent}"] == str((config_folder / path).parent)
        assert (ROOT / path).exists()


def test_make_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    declared = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert declared
    phony = set(declared[1].split())

    shown = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S607  whichever make is there

    assert {line.split()[1] for line in shown.stdout.splitlines()} == phony
    wanted = (
        "help run dev worker test test-long check lint format type-check bench bench-full image clean lock integration"
    )
    assert set(wanted.split()) <= phony


def test_locks_match_what_is_asked_for() -> None:
    assert [fault for name, wanted in lock.asked().items() for fault in lock.faults(name, wanted)] == []


def test_setup_says_what_to_install_when_there_is_no_python(tmp_path: Path) -> None:
    command = ["env", "PYTHON=no-such-python", f"VENV={tmp_path / 'venv'}", "sh", "scripts/setup.sh", "run"]

    ran = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)  # noqa: S603  ours

    assert ran.returncode == 1
    assert "No Python 3.11 or newer" in ran.stderr
    assert "apt-get install python3 python3-venv" in ran.stderr
    assert not (tmp_path / "venv").exists()
