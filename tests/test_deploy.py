"""What runs the gateway elsewhere: image, compose file, Kubernetes, systemd, Caddy, monitoring, Makefile."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmgateway.settings import fields, load_settings, name_of
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
UNIT = (ROOT / "deploy" / "systemd" / "llmgateway.service").read_text()
DEFAULTS = load_settings({})
GRACE_S = DEFAULTS.shutdown_grace_s


def manifest(kind: str) -> dict[str, Any]:
    (found,) = [document for document in MANIFESTS if document["kind"] == kind]
    return found


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = manifest("Deployment")["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    (found,) = pod()["containers"]
    assert isinstance(found, dict)
    return found


def images() -> Iterator[str]:
    yield from re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    yield from (service["image"] for service in SERVICES.values() if "build" not in service)
    yield container()["image"]


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


def test_compose_file_has_the_known_parts() -> None:
    assert set(COMPOSE) == {"services", "volumes"}
    assert set(SERVICES) == {"gateway", "worker", "redis", "postgres", "prometheus", "grafana", "jaeger"}
    mounted = {mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])}
    assert {name for name in mounted if not name.startswith(".")} == set(COMPOSE["volumes"])
    assert [name for name in mounted if name.startswith(".") and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_compose_service_is_whole(name: str) -> None:
    service = SERVICES[name]

    assert "image" in service
    # The gateway's check is the image's own.
    assert "healthcheck" in service or ("HEALTHCHECK" in DOCKERFILE and "build" in service)
    assert service["restart"] == ("on-failure:3" if name == "worker" else "unless-stopped")
    assert set(service.get("depends_on", [])) <= set(SERVICES)
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), "only this machine may connect"


@pytest.mark.parametrize("name", ["gateway", "worker"])
def test_compose_service_of_ours_is_closed_in(name: str) -> None:
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert int(service["stop_grace_period"].removesuffix("s")) > GRACE_S


def test_compose_starts_the_gateway_alone_by_default() -> None:
    assert [name for name, service in SERVICES.items() if "profiles" not in service] == ["gateway"]


def test_settings_in_the_manifests_exist() -> None:
    text = "\n".join([DOCKERFILE, UNIT, yaml.safe_dump(COMPOSE), yaml.safe_dump_all(MANIFESTS)])

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


def test_kubernetes_pod_is_closed_in_and_bounded() -> None:
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert f"USER {pod()['securityContext']['runAsUser']}:" in DOCKERFILE
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(container()["resources"]["requests"]) == {"cpu", "memory"}
    assert "memory" in container()["resources"]["limits"]
    mounts = {mount["name"] for mount in container()["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod()["volumes"]}


def test_kubernetes_objects_find_each_other() -> None:
    labels = manifest("Deployment")["spec"]["template"]["metadata"]["labels"]

    assert manifest("Service")["spec"]["selector"] == labels
    assert manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    (catalog,) = [volume["configMap"]["name"] for volume in pod()["volumes"] if "configMap" in volume]
    assert manifest("ConfigMap")["metadata"]["name"] == catalog
    assert manifest("PodDisruptionBudget")["spec"]["minAvailable"] < manifest("Deployment")["spec"]["replicas"]


def test_systemd_unit_waits_for_running_answers() -> None:
    timeout = re.search(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)

    assert timeout
    assert int(timeout[1]) > GRACE_S
    assert "DynamicUser=yes" in UNIT
    assert "ExecReload=/bin/kill -HUP $MAINPID" in UNIT


def test_caddy_passes_chunks_at_once_and_waits_longer_than_the_gateway() -> None:
    caddyfile = (ROOT / "deploy" / "Caddyfile").read_text()
    waits = re.search(r"response_header_timeout (\d+)s", caddyfile)

    assert "flush_interval -1" in caddyfile
    assert waits
    assert int(waits[1]) > DEFAULTS.request_timeout_s


def test_monitoring_files_fit_together() -> None:
    scraped = yaml.safe_load((ROOT / "prometheus.yml").read_text())["scrape_configs"]
    sources = yaml.safe_load((ROOT / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    folders = yaml.safe_load((ROOT / "grafana/provisioning/dashboards/gateway.yml").read_text())["providers"]
    dashboard = json.loads((ROOT / "grafana/dashboards/gateway.json").read_text())

    jobs = {job["job_name"] for job in scraped}
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert "gateway:8000" in scraped[0]["static_configs"][0]["targets"]
    assert {match for query in queries for match in re.findall(r'job="(\w+)"', query)} <= jobs
    uids = {panel["datasource"]["uid"] for panel in dashboard["panels"] if "datasource" in panel}
    assert uids == {source["uid"] for source in sources}
    assert f"./grafana/dashboards:{folders[0]['options']['path']}:ro" in SERVICES["grafana"]["volumes"]


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
