"""What a change of an index changed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from masksearch_agent.errors import RetrievalError
from masksearch_agent.retrieval.passages import PassageFile

__all__ = ("IndexReport", "report_change")

_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What building an index changed."""

    passages: int
    """Passages that it holds now."""
    added: int
    """Passages whose title and text are new; a changed one is added, and its old form removed."""
    removed: int
    embedded: int
    """Passages whose embedding was computed."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Passages that could not be embedded, by reason. Words find them, and the next change tries them again."""
    replaced: int = 0
    """Documents that `update_index` was given and whose old passages, one or more, it took out."""
    replaced_first: tuple[str, ...] = ()
    """The ids of the first of them."""

    @property
    def failed(self) -> int:
        """Number of passages that could not be embedded."""
        return sum(self.failures.values())


def report_change(
    before: PassageFile | None,
    now: PassageFile,
    embedded: int,
    failures: Mapping[str, int],
    is_update: bool,
) -> IndexReport:
    """Compare an index with what it was, by the titles and texts of its passages.

    Args:
        before: What it was; None for a new one.
        now: What it is.
        embedded: Passages whose embedding was computed.
        failures: Passages that could not be embedded, by reason.
        is_update: Only some passages were given: name the documents of which others were there.
    """
    import numpy as np

    there, first = now.is_there(), 0
    gone = now.rows["text"][:0]
    replaced, names = 0, tuple[str, ...]()
    if before is not None:
        is_gone = before.is_there()
        if before.directory == now.directory:
            first = before.extent.rows
            is_gone &= ~there[:first]
        gone = before.rows["text"][is_gone]
        if is_update:
            replaced, names = _replaced(before, np.flatnonzero(is_gone), now.rows[there])
    new = now.rows["text"][first:][there[first:]]
    added, removed = (int(np.isin(a, b, invert=True).sum()) for a, b in ((new, gone), (gone, new)))
    return IndexReport(len(now), added, removed, embedded, dict(failures), replaced, names)


def _replaced(before: PassageFile, gone: Any, there: Any) -> tuple[int, tuple[str, ...]]:
    """Count the documents that are there and lost passages, and name the first of them."""
    import numpy as np

    # In a new build stand passages of before, too.
    gone = gone[np.isin(before.rows["line"][gone], there["line"], invert=True)]
    gone = gone[np.isin(before.rows["document"][gone], there["document"])]
    firsts = np.sort(np.unique(before.rows["document"][gone], return_index=True)[1])
    names: list[str] = []
    for row in gone[firsts[:_MAX_NAMED]].tolist():
        with suppress(RetrievalError):  # A damaged line must not fail what has been done by now.
            passage = before.at(row)
            names.append(passage.document_id or passage.id)
    return len(firsts), tuple(names)
