"""Trace context and baggage as W3C writes them, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmgateway.exchange import Header, Trace
from llmgateway.telemetry.traces.context import (
    MAX_BAGGAGE_BYTES,
    MAX_STATE_BYTES,
    begin,
    new_span_id,
    outgoing,
    read_baggage,
    read_traceparent,
    read_tracestate,
    write_traceparent,
)
from llmgateway.telemetry.traces.sampling import SAMPLERS

SAMPLER = SAMPLERS["parentbased_always_on"]
A, B = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
VALID = f"00-{A}-{B}-01".encode()


@given(st.integers(1, (1 << 128) - 1), st.integers(1, (1 << 64) - 1), st.booleans())
def test_a_traceparent_is_read_as_it_was_written(trace_id: int, span_id: int, sampled: bool) -> None:
    written = write_traceparent(trace_id, span_id, sampled=sampled)

    assert read_traceparent(written.encode()) == (trace_id, span_id, sampled)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_traceparent_or_none(value: bytes) -> None:
    assert read_traceparent(value) is None or len(value.strip(b" \t")) >= 55


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        f"ff-{A}-{B}-01".encode(),
        f"00-{'0' * 32}-{B}-01".encode(),
        f"00-{A}-{'0' * 16}-01".encode(),
        f"00-{A.upper()}-{B}-01".encode(),
        f"00-{A}-{B}-01-more".encode(),
        f"00-{A}-{B}-0x".encode(),
        f"00-{A}-{B}".encode(),
        f"00-{A[:-1]}-{B}-01".encode(),
        f"01-{A}-{B}-01more".encode(),
        f"0-{A}-{B}-01".encode(),
        f"00-{A}-{B}-01\n".encode(),
    ],
)
def test_what_is_no_traceparent_begins_a_trace_of_its_own(value: bytes) -> None:
    trace = begin([(b"traceparent", value), (b"tracestate", b"a=1")], SAMPLER)

    assert (trace.parent_id, trace.state, trace.sampled) == (0, "", True)
    assert f"{trace.trace_id:032x}" != A


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (VALID, True),
        (VALID[:-2] + b"00", False),
        (VALID[:-2] + b"ff", True),
        (VALID[:-2] + b"02", False),
        (b"cc" + VALID[2:], True),
        (b"cc" + VALID[2:] + b"-what-the-future-will-be-like", True),
        (b" " + VALID + b"\t", True),
    ],
)
def test_the_clients_trace_is_continued(value: bytes, *, sampled: bool) -> None:
    trace = begin([(b"host", b"x"), (b"traceparent", value)], SAMPLER)

    assert (f"{trace.trace_id:032x}", f"{trace.parent_id:016x}") == (A, B)
    assert (trace.sampled, trace.parent_sampled) == (sampled, sampled)
    assert trace.span_id not in {0, trace.parent_id}


def test_two_traceparents_say_nothing() -> None:
    assert begin([(b"traceparent", VALID), (b"traceparent", VALID)], SAMPLER).parent_id == 0


def test_a_state_without_its_trace_is_dropped_and_baggage_is_not() -> None:
    trace = begin([(b"tracestate", b"a=1"), (b"baggage", b"k=v")], SAMPLER)

    assert (trace.state, trace.baggage) == ("", "k=v")


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ([b"a=1"], "a=1"),
        ([b"a=1, b=2", b"c=3"], "a=1,b=2,c=3"),
        ([b"a=1,,b=2"], "a=1,b=2"),
        ([b"7ab@vendor=x y"], "7ab@vendor=x y"),
        ([b"a=1,a=2"], ""),
        ([b"A=1"], ""),
        ([b"a"], ""),
        ([b"a=1=2"], ""),
        ([b"a=" + b"x" * 257], ""),
        ([b"a=\xc3\xa9"], ""),
        ([b",".join(b"k%d=v" % number for number in range(33))], ""),
    ],
)
def test_a_state_is_passed_on_whole_or_not_at_all(values: list[bytes], read: str) -> None:
    assert read_tracestate(values) == read


def test_a_long_state_loses_its_long_members_first() -> None:
    many = [b"k%d=%s" % (number, b"v" * 90) for number in range(6)]
    read = read_tracestate([b"long=" + b"x" * 200, *many])

    assert len(read) <= MAX_STATE_BYTES
    assert "long" not in read
    assert read.startswith("k0=")


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (b"k=v", "k=v"),
        (b"k = v ; p = 1 ; q , b=2", "k = v ; p = 1 ; q,b=2"),
        (b"k=%20v,bad key=1,=x,b=2", "k=%20v,b=2"),
        (b'k="v"', ""),
        (b"k=\xc3\xa9", ""),
        (b"k=a b", ""),
        (b"k=v\r\nevil: 1", ""),
    ],
)
def test_members_of_baggage_that_are_none_are_left_out(value: bytes, read: str) -> None:
    assert read_baggage([value]) == read


def test_baggage_is_bounded() -> None:
    assert len(read_baggage([b",".join(b"k%d=%s" % (number, b"v" * 50) for number in range(400))])) <= MAX_BAGGAGE_BYTES
    assert read_baggage([b"k=" + b"v" * MAX_BAGGAGE_BYTES]) == ""


@given(st.lists(st.tuples(st.sampled_from([b"traceparent", b"tracestate", b"baggage"]), st.binary(max_size=600))))
def test_whatever_a_client_sends_what_goes_on_is_one_printable_line(headers: list[Header]) -> None:
    for _, value in outgoing(begin(headers, SAMPLER), new_span_id()):
        assert value.isascii()
        assert value.isprintable()


def test_an_upstream_is_told_of_its_own_attempt() -> None:
    trace = Trace(int(A, 16), 1, int(B, 16), sampled=True, state="a=1", baggage="k=v", parent_sampled=True)

    assert outgoing(trace, 5) == (
        ("traceparent", f"00-{A}-0000000000000005-01"),
        ("tracestate", "a=1"),
        ("baggage", "k=v"),
    )
    assert outgoing(Trace(int(A, 16), 1), 5) == (("traceparent", f"00-{A}-0000000000000005-00"),)


def test_where_no_spans_are_kept_the_upstreams_hang_from_the_clients() -> None:
    trace = begin([(b"traceparent", VALID)], SAMPLERS["always_off"])

    assert outgoing(trace, 5) == (("traceparent", VALID.decode()),)
