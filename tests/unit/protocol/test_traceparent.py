import pytest

from proxy.protocol.traceparent import is_traceparent, is_tracestate, without_invalid_trace

PARENT = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (PARENT, True),
        (b"01" + PARENT[2:], True),
        (b"01" + PARENT[2:] + b"-future", True),
        (PARENT + b"-future", False),
        (b"ff" + PARENT[2:], False),
        (PARENT.upper(), False),
        (PARENT[:-1], False),
        (PARENT + b"0", False),
        (PARENT + b"\n", False),
        (b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01", False),
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", False),
        (b"", False),
    ],
)
def test_traceparent_grammar(value: bytes, valid: bool) -> None:
    assert is_traceparent(value) is valid


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (b"congo=t61rcWkgMzE", True),
        (b"a=1 , tenant@sys=2,,\tb=x/y", True),
        (b"", True),
        (b",".join(b"k%d=v" % number for number in range(32)), True),
        (b",".join(b"k%d=v" % number for number in range(33)), False),
        (b"A=1", False),
        (b"a", False),
        (b"a=b=c", False),
        (b"a=caf\xe9", False),
        (b"a=" + b"x" * 257, False),
    ],
)
def test_tracestate_grammar(value: bytes, valid: bool) -> None:
    assert is_tracestate(value) is valid


def test_valid_trace_context_passes_unchanged() -> None:
    fields = [(b"TraceParent", PARENT), (b"tracestate", b"a=1"), (b"tracestate", b"b=2"), (b"X", b"1")]

    assert without_invalid_trace(fields) == fields


def test_traceparent_alone_passes() -> None:
    assert without_invalid_trace([(b"traceparent", PARENT)]) == [(b"traceparent", PARENT)]


@pytest.mark.parametrize("parents", [[], [b"x"], [PARENT, PARENT]])
def test_without_one_valid_traceparent_both_are_dropped(parents: list[bytes]) -> None:
    fields = [(b"traceparent", parent) for parent in parents]

    assert without_invalid_trace([*fields, (b"Tracestate", b"a=1"), (b"X", b"1")]) == [(b"X", b"1")]


def test_invalid_tracestate_leaves_traceparent() -> None:
    assert without_invalid_trace([(b"traceparent", PARENT), (b"tracestate", b"?")]) == [(b"traceparent", PARENT)]


def test_members_are_counted_over_all_tracestate_fields() -> None:
    half = b",".join(b"k%d=v" % number for number in range(17))
    fields = [(b"traceparent", PARENT), (b"tracestate", half), (b"tracestate", half)]

    assert without_invalid_trace(fields) == [(b"traceparent", PARENT)]
