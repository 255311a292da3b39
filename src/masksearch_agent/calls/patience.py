"""Calls that survive a bad day of the service: what is tried again, when, and for how long.

Timeouts, lost connections, 429 and 5xx are tried again with exponential waits until the patience is over, or would be
before the server wants to be asked again; a 429 makes all calls to that service wait, so a storm costs time and not
attempts. A refused key, an unknown model (401 to 404) or an account without money fails at once, and so does a key that
is not set. What is neither, such as a reply that the client library cannot read, gets a few attempts of its own.

Invariant: no text that leaves this module holds a key. Client libraries put keys into messages and addresses,
so messages are redacted and the original exception is not chained.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from langchain_core.rate_limiters import InMemoryRateLimiter
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_before_delay

from masksearch_agent.config.calls import CallSettings
from masksearch_agent.errors import MaskSearchError, ServiceError, ServiceRefusedError
from masksearch_agent.failures import REFUSED, causes_of, is_transient, redact, status_of

__all__ = ("PatientCaller",)

T = TypeVar("T")

_ATTEMPTS_AT_THE_UNKNOWN = 6
_MAX_MESSAGE_CHARS = 300
_NO_KEY = re.compile(r"(?i)\b(?:no|set the|either) \w*API[ _]key\b")
logger = logging.getLogger(__name__)


class PatientCaller:
    """Makes the calls to one service, so called in messages. Safe to share between event loops and threads."""

    def __init__(self, service: str, settings: CallSettings | None = None) -> None:
        self.service = service
        self.settings = settings or CallSettings()
        self.failed_attempts = 0
        """Attempts that were tried again."""
        self._paused_until = 0.0
        self._limiter: InMemoryRateLimiter | None = None
        if rate := self.settings.requests_per_second:
            self._limiter = InMemoryRateLimiter(
                requests_per_second=rate, check_every_n_seconds=min(0.05, 1 / rate), max_bucket_size=1
            )

    async def call(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Return what `attempt`, which makes the call once, returns; it is called again while that can help.

        Raises:
            ServiceError: The service kept failing.
            ServiceRefusedError: The service refused for good.
            MaskSearchError: What the attempt itself raises of our own errors is passed on at once.
        """
        unknown_failures = 0

        def is_worth_another_try(failure: BaseException) -> bool:
            nonlocal unknown_failures
            if not isinstance(failure, Exception) or isinstance(failure, MaskSearchError):
                return False
            if _is_refusal(failure):
                return False
            if is_transient(failure):
                return True
            unknown_failures += 1
            return status_of(failure) is None and unknown_failures < _ATTEMPTS_AT_THE_UNKNOWN

        retrying = AsyncRetrying(
            retry=retry_if_exception(is_worth_another_try),
            wait=self._wait_s,
            stop=stop_before_delay(self.settings.patience_s),
            reraise=True,
        )
        try:
            return await retrying(self._attempt, attempt)
        except MaskSearchError:
            raise
        except Exception as failure:  # noqa: BLE001 (raised again, without what it may tell about keys)
            what = _describe(failure)
            if _is_refusal(failure):
                raise ServiceRefusedError(
                    f"{self.service} refuses every call: {what}; check the model's name, the address, and the API key "
                    "in the environment and its account"
                ) from None
            if is_transient(failure) or status_of(failure) is None:
                raise ServiceError(f"{self.service} keeps failing: {what}; try again once it is up") from None
            raise ServiceError(
                f"{self.service} does not take the call: {what}; change what it says is wrong, such as a setting that "
                "the model does not have"
            ) from None

    async def _attempt(self, attempt: Callable[[], Awaitable[T]]) -> T:
        while (left_s := self._paused_until - time.monotonic()) > 0:
            # Whoever waits goes on at a moment of its own, not all at once.
            await asyncio.sleep(left_s * random.uniform(1.0, 1.5))
        if self._limiter is not None:
            await self._limiter.aacquire()
        async with asyncio.timeout(self.settings.timeout_s):
            return await attempt()

    def _wait_s(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome is not None else None
        grown = self.settings.first_wait_s * 2.0 ** min(state.attempt_number - 1, 32)
        longest = min(self.settings.longest_wait_s, grown)
        wait_s = max(longest * random.uniform(0.5, 1.0), _retry_after_s(failure))
        self.failed_attempts += 1
        if (
            status_of(failure) == 429
            and (state.seconds_since_start or 0.0) + wait_s < self.settings.patience_s
        ):
            self._paused_until = max(self._paused_until, time.monotonic() + wait_s)
        logger.info("%s: attempt %d failed (%s); next in %.1f s", self.service, state.attempt_number,
                    _describe(failure), wait_s)  # fmt: skip
        return wait_s


def _retry_after_s(failure: BaseException | None) -> float:
    for link in causes_of(failure):
        for holder in (link, getattr(link, "response", None)):
            value = str((getattr(holder, "headers", None) or {}).get("retry-after", ""))
            if re.fullmatch(r"\d+(\.\d+)?", value):
                return float(value)
    return 0.0


def _is_refusal(failure: BaseException) -> bool:
    # OpenAI says with 429 that an account has no money left, which no wait changes.
    if any(getattr(link, "code", None) == "insufficient_quota" for link in causes_of(failure)):
        return True
    # Anthropic's client looks for its key with the first call, and raises a TypeError where it finds none.
    has_no_key = isinstance(failure, TypeError) and _NO_KEY.search(str(failure)) is not None
    return has_no_key or status_of(failure) in REFUSED


def _describe(failure: BaseException | None) -> str:
    status = status_of(failure)
    text = " ".join(redact(str(failure)).split())[:_MAX_MESSAGE_CHARS]
    name = type(failure).__name__ + (f" {status}" if status is not None else "")
    return f"{name}: {text}" if text else name
