from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import httpx
import pytest

from masksearch_agent.calls.patience import PatientCaller
from masksearch_agent.config.calls import CallSettings
from masksearch_agent.errors import ReplyError, ServiceError, ServiceRefusedError
from masksearch_agent.failures import redact

FAST = CallSettings(timeout_s=0.05, patience_s=5, first_wait_s=0.001, longest_wait_s=0.002)


def http_error(status: int, headers: dict[str, str] | None = None) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "http://127.0.0.1/v1")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(status, headers=headers))


class Service:
    """Fails with each of the given exceptions in turn, then answers."""

    def __init__(self, failures: Sequence[BaseException | str]) -> None:
        self.failures = list(failures)
        self.calls_s: list[float] = []

    async def __call__(self) -> str:
        self.calls_s.append(time.monotonic())
        failure = self.failures.pop(0) if self.failures else "answer"
        if failure == "hang":
            await asyncio.sleep(10)
        if isinstance(failure, BaseException):
            raise failure
        return "answer"


def call(service: Service, settings: CallSettings = FAST) -> str:
    return asyncio.run(PatientCaller("the model", settings).call(service))


@pytest.mark.parametrize(
    "failure",
    [
        http_error(429), http_error(500), http_error(503), http_error(529), http_error(408), "hang",
        ConnectionResetError(104, "reset"), httpx.ReadError("gone"), httpx.RemoteProtocolError("gone"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_passes_is_tried_again_for_as_long_as_the_patience_lasts(failure: BaseException | str) -> None:
    service = Service([failure] * 5)
    assert call(service) == "answer"
    assert len(service.calls_s) == 6


def test_a_cause_behind_a_librarys_own_exception_counts() -> None:
    wrapped = RuntimeError("the client library gave up")
    wrapped.__cause__ = ConnectionResetError(104, "reset")
    assert call(Service([wrapped] * 5)) == "answer"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_ends_at_once(status: int) -> None:
    service = Service([http_error(status)] * 2)
    with pytest.raises(ServiceRefusedError, match=f"the model refuses every call: HTTPStatusError {status}"):
        call(service)
    assert len(service.calls_s) == 1


def test_a_key_that_is_not_set_ends_at_once_where_the_library_finds_out_with_the_first_call() -> None:
    # Anthropic's words.
    no_key = TypeError(
        "Anthropic authentication failed: no API key or authorization token were provided. Set the ANTHROPIC_API_KEY "
        "environment variable"
    )
    service = Service([no_key] * 2)
    with pytest.raises(ServiceRefusedError, match="the model refuses every call: TypeError: Anthropic auth"):
        call(service)
    assert len(service.calls_s) == 1


def test_an_account_without_money_ends_at_once() -> None:
    class QuotaError(httpx.HTTPStatusError):
        code = "insufficient_quota"  # As openai's exceptions have it.

    busy = http_error(429)
    service = Service([QuotaError("no quota", request=busy.request, response=busy.response)] * 2)
    with pytest.raises(ServiceRefusedError, match="every call: QuotaError 429: no quota; check"):
        call(service)
    assert len(service.calls_s) == 1


def test_a_bad_request_is_not_repeated_and_is_no_outage_to_wait_for() -> None:
    service = Service([http_error(400)] * 2)
    with pytest.raises(
        ServiceError, match="the model does not take the call: HTTPStatusError 400: no; change what"
    ):
        call(service)
    assert len(service.calls_s) == 1


def test_what_cannot_be_told_apart_gets_six_attempts_of_its_own() -> None:
    service = Service([http_error(429), http_error(503), *[KeyError("choices")] * 9])
    with pytest.raises(ServiceError, match="KeyError"):
        call(service)
    assert len(service.calls_s) == 2 + 6


def test_patience_ends() -> None:
    service = Service([http_error(503)] * 1000)
    with pytest.raises(ServiceError, match="keeps failing: HTTPStatusError 503"):
        call(service, FAST.model_copy(update={"patience_s": 0.05}))
    assert len(service.calls_s) < 1000


def test_a_server_that_wants_to_be_left_alone_for_longer_than_the_patience_costs_no_wait() -> None:
    refused, other = Service([http_error(429, {"Retry-After": "3600"})] * 2), Service([])
    caller = PatientCaller("the model", FAST)

    async def one_after_the_other() -> str:
        with pytest.raises(ServiceError, match="keeps failing: HTTPStatusError 429"):
            await caller.call(refused)
        return await caller.call(other)

    started_s = time.monotonic()
    assert asyncio.run(asyncio.wait_for(one_after_the_other(), 5)) == "answer"
    assert time.monotonic() - started_s < 2
    assert len(refused.calls_s) == 1


def test_our_own_errors_pass_unchanged() -> None:
    service = Service([ReplyError("planner reply malformed")])
    with pytest.raises(ReplyError):
        call(service)
    assert len(service.calls_s) == 1


def test_the_servers_wait_is_kept_by_all_callers() -> None:
    busy, other = Service([http_error(429, {"Retry-After": "0.3"})]), Service([])
    caller = PatientCaller("the model", FAST)

    async def both() -> None:
        first = asyncio.create_task(caller.call(busy))
        await asyncio.sleep(0.05)
        await asyncio.gather(first, caller.call(other))

    asyncio.run(both())
    assert busy.calls_s[1] - busy.calls_s[0] >= 0.3
    assert other.calls_s[0] - busy.calls_s[0] >= 0.3


def test_no_more_attempts_start_than_the_rate_allows() -> None:
    services = [Service([]) for _ in range(5)]
    caller = PatientCaller("the model", CallSettings(requests_per_second=20))

    async def all_at_once() -> None:
        await asyncio.gather(*(caller.call(service) for service in services))

    asyncio.run(all_at_once())
    starts_s = sorted(service.calls_s[0] for service in services)
    assert starts_s[-1] - starts_s[0] >= 4 / 20 - 0.05


def test_no_key_gets_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANY_VENDOR_API_KEY", "hunter2hunter2")
    leaky = RuntimeError(
        "GET https://serpapi.com/search?q=x&api_key=0123456789abcdef failed; header Authorization: Bearer abcdef123456,"
        " sk-proj-abcdefghij and hunter2hunter2"
    )
    with pytest.raises(ServiceError) as raised:
        call(Service([leaky] * 9))
    for secret in ("0123456789abcdef", "abcdef123456", "abcdefghij", "hunter2"):
        assert secret not in str(raised.value)
    # A traceback would print a chained exception with its own message.
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    assert redact("the key to success, a bearer of news") == "the key to success, a bearer of news"
