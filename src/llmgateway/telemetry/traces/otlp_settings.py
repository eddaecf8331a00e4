"""Reads OTEL_* as OpenTelemetry defines them: where traces and metrics go, under which name, and how many of them.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables and
https://opentelemetry.io/docs/specs/otel/protocol/exporter
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

from llmgateway.telemetry.traces.sampling import SAMPLERS, Sampler

Protocol = Literal["http/protobuf", "grpc"]
Compression = Literal["none", "gzip"]
_PREFIX = "OTEL_EXPORTER_OTLP_"
_HTTP_SCHEMES = {"http", "https"}
_GRPC_SCHEMES = {"http", "https", ""}
_CERTIFICATES = ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE")


@dataclass(frozen=True, slots=True)
class Collector:
    """Where one signal goes.

    Args:
        endpoint: For HTTP the whole address; for gRPC `host:port`.
        secure: TLS.
        certificate, client_key, client_certificate: Files; `None` is the system's own trust, and no proof of us.
    """

    endpoint: str
    protocol: Protocol = "http/protobuf"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    timeout_s: float = 10.0
    compression: Compression = "none"
    secure: bool = False
    certificate: str | None = None
    client_key: str | None = None
    client_certificate: str | None = None


@dataclass(frozen=True, slots=True)
class OTLP:
    """What OTEL_* say.

    Args:
        traces, metrics: `None` is no export.
        resource: What these come from; `service.instance.id` is this process.
        max_queue, max_batch: Requests with spans that wait, and that are sent together.
        capture_content: Prompts and answers become part of the spans.
    """

    traces: Collector | None = None
    metrics: Collector | None = None
    resource: Mapping[str, str] = field(default_factory=dict)
    sampler: Sampler = SAMPLERS["parentbased_always_on"]
    schedule_delay_s: float = 5.0
    max_queue: int = 2048
    max_batch: int = 512
    metric_interval_s: float = 60.0
    capture_content: bool = False


def read_otlp(otel: Mapping[str, str], *, version: str = "") -> OTLP:
    """Read OTEL_*; a wrong value counts as unset, as OpenTelemetry asks for.

    Args:
        version: The gateway's, as `service.version`.
    """
    return _Reading(otel).all(version)


def faults(otel: Mapping[str, str]) -> list[str]:
    """Say which values are wrong, and what would be right."""
    reading = _Reading(otel)
    reading.all("")
    return reading.faults


class _Reading:
    def __init__(self, otel: Mapping[str, str]) -> None:
        self._otel = otel
        self.faults: list[str] = []

    def all(self, version: str) -> OTLP:
        disabled = self._flag("OTEL_SDK_DISABLED")
        traces, metrics = self._collector("TRACES"), self._collector("METRICS")
        max_queue = int(self._number("OTEL_BSP_MAX_QUEUE_SIZE", 2048, least=1))
        max_batch = int(self._number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, least=1))
        return OTLP(
            traces=None if disabled else traces,
            metrics=None if disabled else metrics,
            resource=self._resource(version),
            sampler=self._sampler(),
            schedule_delay_s=self._number("OTEL_BSP_SCHEDULE_DELAY", 5000) / 1e3,
            max_queue=max_queue,
            max_batch=min(max_batch, max_queue),
            metric_interval_s=self._number("OTEL_METRIC_EXPORT_INTERVAL", 60_000, least=1) / 1e3,
            capture_content=self._flag("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"),
        )

    def _collector(self, signal: str) -> Collector | None:
        exporter = self._one_of(f"OTEL_{signal}_EXPORTER", ("otlp", "none"), "otlp")
        protocol = self._protocol(signal)
        endpoint, name = self._endpoint(signal, protocol)
        if endpoint is None or exporter == "none":
            return None
        address = _address(endpoint)
        if address is None or address.scheme not in (_GRPC_SCHEMES if protocol == "grpc" else _HTTP_SCHEMES):
            right = "`http://host:4317`" if protocol == "grpc" else "`http://host:4318`"
            self._fault(f"{name}: `{_without_user(self._otel[name])}` is no address; write it like {right}")
            return None
        secure = address.scheme == "https" or (not address.scheme and not self._flag(*_names(signal, "INSECURE")))
        certificate, client_key, client_certificate = (self._text(*_names(signal, what)) for what in _CERTIFICATES)
        return Collector(
            endpoint=address.netloc.rpartition("@")[2] if protocol == "grpc" else endpoint,
            protocol=protocol,
            headers=self._headers(signal),
            timeout_s=self._number(_set_name(self._otel, signal, "TIMEOUT"), 10_000, least=1) / 1e3,
            compression=self._compression(signal),
            secure=secure,
            certificate=certificate,
            client_key=client_key,
            client_certificate=client_certificate,
        )

    def _protocol(self, signal: str) -> Protocol:
        name = _set_name(self._otel, signal, "PROTOCOL")
        return "grpc" if self._one_of(name, ("http/protobuf", "grpc"), "http/protobuf") == "grpc" else "http/protobuf"

    def _compression(self, signal: str) -> Compression:
        name = _set_name(self._otel, signal, "COMPRESSION")
        return "gzip" if self._one_of(name, ("none", "gzip"), "none") == "gzip" else "none"

    def _endpoint(self, signal: str, protocol: Protocol) -> tuple[str | None, str]:
        special, general = _names(signal, "ENDPOINT")
        if (endpoint := self._otel.get(special)) is not None:
            return endpoint, special
        endpoint = self._otel.get(general)
        if endpoint is not None and protocol != "grpc":
            endpoint = f"{endpoint.rstrip('/')}/v1/{signal.lower()}"
        return endpoint, general

    def _headers(self, signal: str) -> tuple[tuple[str, str], ...]:
        name = _set_name(self._otel, signal, "HEADERS")
        pairs = self._pairs(name, secret=True)
        return tuple((key.lower(), value) for key, value in pairs.items())

    def _resource(self, version: str) -> dict[str, str]:
        resource = {"service.name": "llmgateway", "service.instance.id": str(uuid.uuid4())}
        if version:
            resource["service.version"] = version
        resource.update(self._pairs("OTEL_RESOURCE_ATTRIBUTES"))
        if "OTEL_SERVICE_NAME" in self._otel:
            resource["service.name"] = self._otel["OTEL_SERVICE_NAME"]
        return resource

    def _sampler(self) -> Sampler:
        name = self._one_of("OTEL_TRACES_SAMPLER", tuple(SAMPLERS), "parentbased_always_on")
        sampler = SAMPLERS[name]
        if not name.endswith("traceidratio"):
            return sampler
        return sampler.of(self._number("OTEL_TRACES_SAMPLER_ARG", 1.0, most=1.0))

    def _pairs(self, name: str, *, secret: bool = False) -> dict[str, str]:
        pairs = {}
        for part in self._otel.get(name, "").split(","):
            if not part.strip():
                continue
            key, equals, value = part.partition("=")
            key, value = unquote(key.strip()), unquote(value.strip())
            if not equals or not key or not (key + value).isprintable() or (secret and not (key + value).isascii()):
                shown = "a part" if secret else f"`{part.strip()}`"
                self._fault(f"{name}: {shown} is not `key=value`; write `a=1,b=2`, percent-encoded")
                continue
            pairs[key] = value
        return pairs

    def _one_of(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        value = self._otel.get(name, default).strip().lower()
        if value in allowed:
            return value
        self._fault(f"{name}: `{self._otel[name]}` is not known here; use {' or '.join(allowed)}")
        return default

    def _number(self, name: str, default: float, *, least: float = 0.0, most: float = 1e9) -> float:
        text = self._otel.get(name)
        if text is None:
            return default
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if least <= number <= most:
            return number
        bounds = f"{least:g} to {most:g}" if most < 1e9 else f"{least:g} or more"  # noqa: PLR2004  its default
        self._fault(f"{name}: `{text}` is not a number from {bounds}")
        return default

    def _flag(self, *names: str) -> bool:
        name = next((name for name in names if name in self._otel), None)
        if name is None:
            return False
        value = self._otel[name].lower()
        if value not in {"true", "false"}:
            self._fault(f"{name}: `{self._otel[name]}` is neither true nor false")
        return value == "true"

    def _text(self, *names: str) -> str | None:
        return next((self._otel[name] for name in names if name in self._otel), None)

    def _fault(self, fault: str) -> None:
        # Traces and metrics share most names.
        if fault not in self.faults:
            self.faults.append(fault)


def _names(signal: str, what: str) -> tuple[str, str]:
    return f"{_PREFIX}{signal}_{what}", f"{_PREFIX}{what}"


def _set_name(otel: Mapping[str, str], signal: str, what: str) -> str:
    """Give the name that counts: the signal's own where it is set, else the general one."""
    special, general = _names(signal, what)
    return special if special in otel else general


def _address(endpoint: str) -> SplitResult | None:
    try:
        address = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
        is_one = bool(address.hostname) and address.port != 0
    except ValueError:
        return None
    return address if is_one else None


def _without_user(address: str) -> str:
    """Leave out a password that an address holds."""
    return address.rpartition("@")[2]
