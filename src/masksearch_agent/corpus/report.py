"""What reading a corpus kept and skipped."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

__all__ = ("CorpusReport",)

_MAX_EXAMPLES = 20

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class CorpusReport:
    """Counts of documents, filled while they are read.

    A document is what is read or skipped in one go: a file of a folder, a row of a table, a page of a dump.
    """

    read: int = 0
    kept: int = 0
    """Documents that gave at least one passage."""
    passages: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """Documents that gave none, by reason."""
    failures: Counter[str] = field(default_factory=Counter)
    """Of them, those that could not be read."""
    examples: list[str] = field(default_factory=list)
    """The first of them, each as `where: what was wrong`."""

    @property
    def failed(self) -> int:
        """Number of documents that could not be read."""
        return self.failures.total()

    def skip(self, where: str, reason: str, detail: str, has_failed: bool = False) -> None:
        """Count a skipped document and remember what was wrong with it."""
        if has_failed:
            self.failures[reason] += 1
        self.skipped[reason] += 1
        if len(self.examples) < _MAX_EXAMPLES:
            self.examples.append(f"{where}: {detail}")
        logger.info("skipped %s: %s", where, detail)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts for people and for JSON."""
        counts = {
            "read": self.read,
            "kept": self.kept,
            "skipped": self.skipped.total(),
            "failed": self.failed,
        }
        return {**counts, "reasons": dict(self.skipped.most_common()), "passages": self.passages}
