"""What a failure costs: the item that failed, or the run.

One bad item costs that item: it is counted with its reason, and the rest goes on. What is no item's own goes on up and
stops the run: Ctrl-C, no memory left, a full disk, a closed pipe, and what every other item would meet as well, such as
a refused key or a missing package. A service that stays down stops it too, once many items in a row have failed by it.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from masksearch_agent.errors import (
    ConfigError,
    MaskSearchError,
    MissingExtraError,
    ServiceError,
    ServiceRefusedError,
    ServingError,
)

__all__ = (
    *(
        "REFUSED",
        "Failures",
        "causes_of",
        "is_exhausted",
        "is_outage",
        "is_transient",
        "kind_of",
        "reason_of",
    ),
    *("redact", "status_of", "stops_run"),
)

logger = logging.getLogger(__name__)

REFUSED = frozenset({401, 402, 403, 404})
"""HTTP statuses that every other call would meet as well."""
_TRANSIENT = frozenset({408, 409, 425, 429})
_TRANSIENT_NAMES = frozenset(
    {
        *("APIConnectionError", "APITimeoutError", "TransportError"),  # openai, anthropic, httpx
        *("ClientConnectionError", "ClientPayloadError", "ServerTimeoutError"),  # aiohttp
        *("ChunkedEncodingError", "Timeout"),  # requests
        *("HTTPTimeoutError", "DDGSException"),  # wikipedia, ddgs
    }
)
_STATUS_IN_TEXT = re.compile(r"\bError (\d{3}):")
"""langchain-community's Tavily wrapper says it in words only."""
_SECRET_NAME = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD)$")
_SECRET = re.compile(
    r"(?i)(?P<name>(?:api[-_ ]?key|access[-_]?token|authorization|bearer|[?&]key)[\"']?\s*[=:]\s*[\"']?"
    r"(?:(?:bearer|basic)\s+)?"
    r"|(?:api[-_]?key|access[-_]?token|authorization|bearer)\s+[\"']|[\"'](?:bearer|basic)\s+"
    # Without a sign or a quotation mark, a word behind the name is one of a sentence, unless it holds a digit.
    r"|(?:api[-_]?key|access[-_]?token|authorization|bearer)\s+(?=\S*\d))[\w.~+/*-]{6,}"
    r"|\b(?:(?:sk|pk|tvly|gsk|xai)[-_][\w*-]{6,}|AIza[\w-]{20,})"
)

_EVERY_ITEMS = (BrokenPipeError, ConfigError, MissingExtraError, ServiceRefusedError)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_IN_SQLITE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
"""The second one, an I/O error, where the file beside the store has no room to grow."""
_FULL_IN_WORDS = re.compile(
    r"No space left on device|StorageFull|disk is full|File too large \(os error|PytorchStreamWriter failed writing|"
    r"unexpected pos \d+ vs|\d+ requested and \d+ written|[Cc]an(?:'t|not) allocate memory|std::bad_alloc|"
    r"can't start new thread|Failed to spawn|failed to map segment"
)
"""What safetensors, Chroma, tantivy, torch, numpy and the loader of libraries say in words only, of disk and memory."""
_SPEAKERS = frozenset({"chromadb", "safetensors", "safetensors_rust"})
"""Modules of exceptions that say so; others raise plain ones."""
_MAX_REASON_CHARS = 300
_MAX_KIND_CHARS = 160
_OWN_WORDS = re.compile(r"(?<!\w)'[^']*'(?!\w)|\d[\d.,]*(?<=\d)")
"""What differs between two items that failed for one reason: names in quotes, and numbers."""


@dataclass
class Failures:
    """The items of a run that failed, counted by reason."""

    most_in_a_row: int = 20
    """Items that may fail one after the other because a service is down, before the run stops."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Without what is one item's own: numbers stand as `…`."""
    _in_a_row: int = 0

    @property
    def count(self) -> int:
        """Number of items that failed."""
        return self.reasons.total()

    def add(self, item: str, failure: BaseException) -> str:
        """Count a failed item and return why it failed.

        Raises:
            BaseException: The failure itself, where it stops the run.
            ServiceError: It is the last of too many in a row.
        """
        if stops_run(failure):
            raise failure
        return self.add_reason(item, reason_of(failure), is_outage(failure), failure)

    def add_reason(
        self, item: str, reason: str, by_outage: bool = False, cause: BaseException | None = None
    ) -> str:
        """Count an item that failed elsewhere; see `add`."""
        logger.warning("%s failed: %s", item, reason)
        self.reasons[kind_of(reason)] += 1
        self._in_a_row = self._in_a_row + 1 if by_outage else 0
        if self._in_a_row >= self.most_in_a_row:
            raise ServiceError(
                f"{self._in_a_row} items in a row failed, the last one because {reason}"
            ) from cause
        return reason

    @contextmanager
    def costing(self, item: str) -> Iterator[None]:
        """Let what fails in the block cost an item; see `add`."""
        try:
            yield
        except Exception as failure:  # noqa: BLE001 (raised again where it is more than an item's)
            self.add(item, failure)

    def note_earlier(self, reason: str) -> None:
        """Count an item that failed in an earlier run."""
        self.reasons[kind_of(reason)] += 1

    def note_success(self) -> None:
        """Note that an item did not fail."""
        self._in_a_row = 0


def stops_run(failure: BaseException) -> bool:
    """Whether a failure is more than one item's."""
    if not isinstance(failure, Exception) or isinstance(failure, _EVERY_ITEMS):
        return True
    if not isinstance(failure, MaskSearchError) and status_of(failure) in REFUSED:
        return True
    return is_exhausted(failure)


def is_outage(failure: BaseException) -> bool:
    """Whether an item failed because a service or a model server is down; the same item may succeed later."""
    if isinstance(failure, MaskSearchError):
        return isinstance(failure, (ServiceError, ServingError))
    return is_transient(failure)


def reason_of(failure: BaseException) -> str:
    """Say why an item failed, in one line and without what looks like a key."""
    # Half a surrogate pair could not be written anywhere.
    text = " ".join(redact(str(failure)).split())[:_MAX_REASON_CHARS].encode(errors="replace").decode()
    if isinstance(failure, MaskSearchError) and text:
        return text
    return f"{type(failure).__name__}: {text}" if text else type(failure).__name__


def kind_of(reason: str) -> str:
    """Return what items that failed for the same reason have in common of it."""
    return _OWN_WORDS.sub("…", reason)[:_MAX_KIND_CHARS]


def is_exhausted(failure: BaseException) -> bool:
    """Whether disk or memory is full."""
    return any(map(_says_exhausted, causes_of(failure)))


def _says_exhausted(failure: BaseException) -> bool:
    if isinstance(failure, sqlite3.Error):
        return getattr(failure, "sqlite_errorcode", None) in _FULL_IN_SQLITE
    is_full = isinstance(failure, OSError) and failure.errno in _FULL
    if is_full or isinstance(failure, MemoryError):
        return True
    # Other exceptions may quote a document that is about full disks.
    kind = type(failure)
    is_of_library = (
        kind in (OSError, RuntimeError, ImportError) or kind.__module__.partition(".")[0] in _SPEAKERS
    )
    return is_of_library and _FULL_IN_WORDS.search(str(failure)) is not None


def redact(text: str) -> str:
    """Return the text without keys: values of variables named like secrets, and what looks like a key."""
    secrets = {value for name, value in os.environ.items() if _SECRET_NAME.search(name) and len(value) >= 6}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _SECRET.sub(lambda found: f"{found['name'] or ''}***", text)


def is_transient(failure: BaseException) -> bool:
    """Whether a call to a service may succeed when it is made again."""
    status = status_of(failure)
    if status is not None:
        return status in _TRANSIENT or status >= 500
    return any(
        isinstance(link, TimeoutError | ConnectionError)
        or not _TRANSIENT_NAMES.isdisjoint(base.__name__ for base in type(link).__mro__)
        for link in causes_of(failure)
    )


def status_of(failure: BaseException | None) -> int | None:
    """Return the HTTP status behind an exception, under any of the names that client libraries give it."""
    for link in causes_of(failure):
        for holder in (link, getattr(link, "response", None)):
            for name in ("status_code", "status", "code"):
                value = getattr(holder, name, None)
                if isinstance(value, int) and 400 <= value < 600:
                    return value
        in_words = _STATUS_IN_TEXT.search(str(link))
        if in_words:
            return int(in_words[1])
    return None


def causes_of(failure: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and what led to it."""
    seen: set[int] = set()
    while failure is not None and id(failure) not in seen:
        seen.add(id(failure))
        yield failure
        failure = failure.__cause__ or failure.__context__
