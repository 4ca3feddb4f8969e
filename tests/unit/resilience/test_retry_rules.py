"""Which outcomes may be followed by another attempt."""

import pytest

from proxy import errors
from proxy.config.policies import RetryConfig
from proxy.errors import ProxyError, UpstreamTimeout
from proxy.exchange import Request
from proxy.resilience.retry_rules import RetryRules
from tests.support.exchange import make_exchange

DEFAULTS = RetryRules(RetryConfig())
WIDE = RetryRules(RetryConfig(methods=("GET", "PUT", "POST", "PATCH"), retry_on=(500, 425, "reset")))
GET = make_exchange("GET").request
POST = make_exchange("POST").request
POST_WITH_KEY = make_exchange("POST", headers={"idempotency-key": "k1"}).request
UPGRADE = make_exchange("GET").request
UPGRADE.upgrade = True

CONNECT = (
    errors.DnsError,
    errors.DnsTimeout,
    errors.ConnectionRefused,
    errors.Unroutable,
    errors.ConnectionTimeout,
    errors.TlsError,
)
RESET = (errors.ConnectionTerminated, errors.ResponseIncomplete)


def all_errors(kind: type[ProxyError] = ProxyError) -> list[type[ProxyError]]:
    """Every kind of error that has a class of its own."""
    return [kind, *(each for sub in kind.__subclasses__() for each in all_errors(sub))]


def one(kind: type[ProxyError], *, written: bool = True) -> ProxyError:
    if issubclass(kind, UpstreamTimeout):
        return kind("attempt", request_written=written)
    return kind(request_written=written)


@pytest.mark.parametrize("kind", all_errors())
def test_errors_have_the_causes_that_the_configuration_names(kind: type[ProxyError]) -> None:
    expected = "connect" if kind in CONNECT else "reset" if kind in RESET else ""
    if kind is UpstreamTimeout:
        expected = "timeout"

    assert DEFAULTS.cause_of_error(one(kind), GET) == expected


@pytest.mark.parametrize("kind", [kind for kind in all_errors() if kind.source != "upstream"])
def test_refusals_of_ours_and_faults_of_the_client_are_never_retried(kind: type[ProxyError]) -> None:
    assert DEFAULTS.cause_of_error(one(kind, written=False), GET) == ""


@pytest.mark.parametrize(("kind", "cause"), [("attempt", "timeout"), ("first_byte", "timeout"), ("idle", "timeout")])
def test_time_limits_of_an_attempt_leave_time_for_another(kind: str, cause: str) -> None:
    assert DEFAULTS.cause_of_error(UpstreamTimeout(kind), GET) == cause


def test_total_deadline_leaves_no_time_for_another_attempt() -> None:
    assert DEFAULTS.cause_of_error(UpstreamTimeout("total"), GET) == ""


def test_error_that_is_marked_as_final_is_final() -> None:
    class Final(errors.ConnectionTerminated):
        retryable = False

    assert DEFAULTS.cause_of_error(Final(), GET) == ""


def test_only_what_retry_on_names_is_retried() -> None:
    assert WIDE.cause_of_error(errors.ConnectionRefused(request_written=False), GET) == ""
    assert WIDE.cause_of_error(errors.ConnectionTerminated(), GET) == "reset"
    assert [WIDE.cause_of_status(status, GET) for status in (425, 429, 500, 503)] == ["425", "", "500", ""]
    assert [DEFAULTS.cause_of_status(status, GET) for status in (200, 404, 429, 500, 502, 503, 504)] == [
        "",
        "",
        "",
        "",
        "502",
        "503",
        "504",
    ]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"])
def test_safe_methods_may_be_repeated_by_default_and_no_others(method: str) -> None:
    request = make_exchange(method).request

    expected = method in ("GET", "HEAD", "OPTIONS")
    assert bool(DEFAULTS.cause_of_status(503, request)) is expected
    assert bool(DEFAULTS.cause_of_error(errors.ConnectionTerminated(), request)) is expected


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize(
    ("headers", "expected"), [({}, ""), ({"Idempotency-Key": ""}, ""), ({"idempotency-key": "k"}, "500")]
)
def test_post_and_patch_need_the_key_of_the_client_as_well(method: str, headers: dict[str, str], expected: str) -> None:
    assert WIDE.cause_of_status(500, make_exchange(method, headers=headers).request) == expected


def test_key_alone_does_not_widen_the_methods() -> None:
    assert DEFAULTS.cause_of_status(503, POST_WITH_KEY) == ""


def test_idempotent_method_that_the_route_allows_needs_no_key() -> None:
    assert WIDE.cause_of_status(500, make_exchange("PUT").request) == "500"
    assert WIDE.cause_of_status(500, make_exchange("HEAD").request) == ""


@pytest.mark.parametrize("request_", [POST, UPGRADE], ids=["POST", "upgrade"])
def test_anything_may_be_repeated_while_no_byte_was_written(request_: Request) -> None:
    assert DEFAULTS.cause_of_error(one(errors.ConnectionRefused, written=False), request_) == "connect"
    assert DEFAULTS.cause_of_error(one(errors.ConnectionTerminated, written=False), request_) == "reset"
    assert DEFAULTS.cause_of_error(one(errors.ConnectionTerminated), request_) == ""


def test_declined_upgrade_stands() -> None:
    assert DEFAULTS.cause_of_status(503, UPGRADE) == ""
