"""OTEL_*, read as OpenTelemetry defines them."""

import pytest

from llmgateway.telemetry.traces.otlp_settings import faults, read_otlp
from llmgateway.telemetry.traces.sampling import SAMPLERS

BASE = "OTEL_EXPORTER_OTLP"


def test_without_an_endpoint_nothing_is_exported() -> None:
    otlp = read_otlp({})

    assert (otlp.traces, otlp.metrics, otlp.sampler) == (None, None, SAMPLERS["parentbased_always_on"])
    assert (otlp.schedule_delay_s, otlp.max_queue, otlp.max_batch, otlp.capture_content) == (5.0, 2048, 512, False)
    assert faults({}) == []


@pytest.mark.parametrize("base", ["http://collector:4318", "http://collector:4318/"])
def test_the_general_endpoint_is_for_both_and_gets_their_paths(base: str) -> None:
    otlp = read_otlp({f"{BASE}_ENDPOINT": base})

    assert otlp.traces is not None
    assert otlp.metrics is not None
    assert otlp.traces.endpoint == "http://collector:4318/v1/traces"
    assert otlp.metrics.endpoint == "http://collector:4318/v1/metrics"
    assert (otlp.traces.protocol, otlp.traces.secure, otlp.traces.timeout_s) == ("http/protobuf", False, 10.0)


def test_a_signals_own_values_win_and_its_endpoint_is_used_as_it_is() -> None:
    otlp = read_otlp(
        {
            f"{BASE}_TRACES_ENDPOINT": "https://traces.test/own",
            f"{BASE}_HEADERS": "authorization=Basic%20abc, X-Tenant=7",
            f"{BASE}_TRACES_TIMEOUT": "250",
            f"{BASE}_TIMEOUT": "9000",
            f"{BASE}_TRACES_COMPRESSION": "gzip",
            f"{BASE}_CERTIFICATE": "/ca.pem",
        }
    )

    assert otlp.metrics is None
    assert otlp.traces is not None
    assert (otlp.traces.endpoint, otlp.traces.secure) == ("https://traces.test/own", True)
    assert otlp.traces.headers == (("authorization", "Basic abc"), ("x-tenant", "7"))
    assert (otlp.traces.timeout_s, otlp.traces.compression, otlp.traces.certificate) == (0.25, "gzip", "/ca.pem")
    assert "abc" not in repr(otlp)


@pytest.mark.parametrize(
    ("endpoint", "insecure", "address", "secure"),
    [
        ("http://collector:4317", None, "collector:4317", False),
        ("https://collector:4317", None, "collector:4317", True),
        ("collector:4317", None, "collector:4317", True),
        ("collector:4317", "true", "collector:4317", False),
        ("https://collector:4317", "true", "collector:4317", True),
    ],
)
def test_over_grpc_the_scheme_says_whether_it_is_secure(
    endpoint: str, insecure: str | None, address: str, *, secure: bool
) -> None:
    otel = {f"{BASE}_ENDPOINT": endpoint, f"{BASE}_PROTOCOL": "grpc"}
    traces = read_otlp(otel | ({} if insecure is None else {f"{BASE}_INSECURE": insecure})).traces

    assert traces is not None
    assert (traces.protocol, traces.endpoint, traces.secure) == ("grpc", address, secure)


@pytest.mark.parametrize("off", [{"OTEL_SDK_DISABLED": "true"}, {"OTEL_TRACES_EXPORTER": "none"}])
def test_traces_can_be_switched_off(off: dict[str, str]) -> None:
    assert read_otlp({f"{BASE}_ENDPOINT": "http://c:4318", **off}).traces is None


def test_what_it_comes_from_has_a_name_and_each_process_an_id() -> None:
    otel = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a,deployment.environment.name=prod%2C1"}
    first, second = read_otlp(otel, version="1.2"), read_otlp({**otel, "OTEL_SERVICE_NAME": "b"})

    assert first.resource["service.name"] == "a"
    assert second.resource["service.name"] == "b"
    assert read_otlp({}).resource["service.name"] == "llmgateway"
    assert first.resource["deployment.environment.name"] == "prod,1"
    assert first.resource["service.version"] == "1.2"
    assert first.resource["service.instance.id"] != second.resource["service.instance.id"]


def test_a_ratio_is_read_for_the_samplers_that_have_one() -> None:
    otel = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"}

    assert read_otlp(otel).sampler == SAMPLERS["parentbased_traceidratio"].of(0.25)
    assert read_otlp({**otel, "OTEL_TRACES_SAMPLER": "always_off"}).sampler == SAMPLERS["always_off"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_SDK_DISABLED", "yes"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        (f"{BASE}_PROTOCOL", "http/json"),
        (f"{BASE}_TRACES_ENDPOINT", "collector:4318"),
        (f"{BASE}_TRACES_ENDPOINT", "http://[::1"),
        (f"{BASE}_TRACES_ENDPOINT", "http://c:port"),
        (f"{BASE}_TRACES_ENDPOINT", "ftp://c"),
        (f"{BASE}_TIMEOUT", "10s"),
        (f"{BASE}_COMPRESSION", "zstd"),
        (f"{BASE}_HEADERS", "sk-secret"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_BSP_SCHEDULE_DELAY", "nan"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "1"),
    ],
)
def test_a_wrong_value_is_said_once_and_counts_as_unset(name: str, value: str) -> None:
    otel = {f"{BASE}_ENDPOINT": "http://c:4318", name: value}
    found = faults(otel)

    assert len(found) == 1
    assert found[0].startswith(name)
    assert "sk-secret" not in found[0]
    read_otlp(otel)
