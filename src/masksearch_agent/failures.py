"""What a failure costs: the item that failed, or the run.

One bad item costs that item: it is counted with its reason, and the rest goes on. What is no item's own goes on up and
stops the run: Ctrl-C, no memory left, a full disk, a closed pipe, and what every other item would meet as well, such as
a refused key or a missing package. A service that stays down stops it too, once many items in a row have failed by it.
"""

from __future__ import annotations

import errno
import logging
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from masksearch_agent.errors import (
    ConfigError,
    MaskSearchError,
    MissingExtraError,
    ServiceError,
    ServiceRefusedError,
    ServingError,
)

__all__ = ("Failures", "is_outage", "kind_of", "reason_of", "stops_run")

logger = logging.getLogger(__name__)

_EVERY_ITEMS = (BrokenPipeError, ConfigError, MissingExtraError, ServiceRefusedError)
_MAX_REASON_CHARS = 300
_MAX_KIND_CHARS = 160
_OWN_WORDS = re.compile(r"'[^']*'|\d[\d.,]*(?<=\d)")
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

    def note_success(self) -> None:
        """Note that an item did not fail."""
        self._in_a_row = 0


def stops_run(failure: BaseException) -> bool:
    """Whether a failure is more than one item's."""
    if not isinstance(failure, Exception) or isinstance(failure, _EVERY_ITEMS):
        return True
    return any(_is_exhausted(link) for link in _causes(failure))


def is_outage(failure: BaseException) -> bool:
    """Whether an item failed because a service or a model server is down; the same item may succeed later."""
    return isinstance(failure, (ServiceError, ServingError, ConnectionError))


def reason_of(failure: BaseException) -> str:
    """Say why an item failed, in one line."""
    # Half a surrogate pair could not be written anywhere.
    text = " ".join(str(failure).split())[:_MAX_REASON_CHARS].encode(errors="replace").decode()
    if isinstance(failure, MaskSearchError) and text:
        return text
    return f"{type(failure).__name__}: {text}" if text else type(failure).__name__


def kind_of(reason: str) -> str:
    """Return what items that failed for the same reason have in common of it."""
    return _OWN_WORDS.sub("…", reason)[:_MAX_KIND_CHARS]


def _is_exhausted(failure: BaseException) -> bool:
    if isinstance(failure, sqlite3.Error):
        return getattr(failure, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    is_full = isinstance(failure, OSError) and failure.errno in (errno.ENOSPC, errno.EDQUOT)
    return is_full or isinstance(failure, MemoryError)


def _causes(failure: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = failure
    seen: set[int] = set()
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
