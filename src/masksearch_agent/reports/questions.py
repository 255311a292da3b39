"""Every question of an evaluation as a table that sorts, filters and opens the trajectory behind an answer.

Made for thousands of questions: the rows are JSON that the page's script draws a hundred at a time, and trajectories,
which are most of the bytes, are packed a few dozen at once (gzip, base64) and unpacked when one of them is opened.
"""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

from masksearch_agent.agent.escaping import restore
from masksearch_agent.evaluation.results import QuestionResult, ResultLabel
from masksearch_agent.reports.build import sample_of
from masksearch_agent.reports.page import render_sample
from masksearch_agent.reports.wording import label

__all__ = ("QuestionTable", "success")

_COLUMNS: tuple[tuple[str, str, int | None], ...] = (
    ("question", "question", None), ("answer", "answer", None), ("recall", "recall", 2), ("gain", "gain", 2),
    ("judge", "judge", 0), ("em", "EM", 0), ("gold_recall", "gold found", 2), ("hops", "hops", 0),
    ("searches", "searches", 0), ("tokens", "tokens", 0), ("seconds", "seconds", 1), ("stop", "stopped", None),
    ("failure", "failed because", None), ("dataset", "dataset", None), ("agent", "agent", None),
    ("category", "category", None),
)  # fmt: skip
"""Field, heading, and decimals of a number or None for text."""
_ALWAYS = {"question", "answer", "recall", "em", "searches", "tokens", "seconds", "stop"}
"""Other columns are shown where they tell questions apart."""
_WHERE_KNOWN = {"judge", "gain", "gold_recall", "failure"}
_GRADES = ("wrong", "partly", "right")
_PER_PACK = 32


class QuestionTable:
    """Collects rows with their trajectories, and keeps no more of a trajectory than its packed text."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        """What was added, in order."""
        self._packs: list[str] = []
        self._open: list[str] = []

    def add(self, of: ResultLabel, result: QuestionResult) -> None:
        """Add a question."""
        row = _row(of, result)
        self.rows.append({name: restore(v) if isinstance(v, str) else v for name, v in row.items()})
        self._open.append(render_sample(sample_of(result, "")))
        if len(self._open) == _PER_PACK:
            self._pack()

    def data(self) -> dict[str, Any]:
        """Return what the script draws the table from."""
        fields = list(self.rows[0])
        rows = [list(row.values()) for row in self.rows]
        names = {value for name in ("dataset", "agent", "stop", "category") for value in self._values(name)}
        labels = {name: label(name) for name in sorted(names)}
        return {"fields": fields, "rows": rows, "labels": labels, "grades": _GRADES, "perPack": _PER_PACK}

    def packs(self) -> list[str]:
        """Return the packed trajectories."""
        self._pack()
        return self._packs

    def columns(self) -> list[tuple[str, str, int | None]]:
        """Return the columns that tell questions apart."""
        return [column for column in _COLUMNS if self._is_shown(column[0])]

    def filters(self) -> list[tuple[str, str, dict[str, str]]]:
        """Return what can be chosen: field, title, and the name of each value."""
        named = (("dataset", "dataset"), ("agent", "agent"), ("hops", "hops"), ("stop", "stop reason"))
        choices = [
            (name, title, {str(value): label(str(value)) for value in sorted(self._values(name))})
            for name, title in named
        ]
        return [("grade", "result", {"2": "right", "1": "partly right", "0": "wrong"}), *choices]

    def _pack(self) -> None:
        if self._open:
            # Without a time in its header the same rows make the same page.
            packed = gzip.compress(json.dumps(self._open).encode(), compresslevel=6, mtime=0)
            self._packs.append(base64.b64encode(packed).decode())
            self._open = []

    def _values(self, name: str) -> set[Any]:
        return {row[name] for row in self.rows} - {None, ""}

    def _is_shown(self, name: str) -> bool:
        values = self._values(name)
        return name in _ALWAYS or len(values) > 1 or (bool(values) and name in _WHERE_KNOWN)


def success(result: QuestionResult) -> float:
    """Return the judge's verdict as 0 or 1, or the recall of an answer that nobody judged."""
    return result.recall if result.verdict is None else result.verdict


def _row(of: ResultLabel, result: QuestionResult) -> dict[str, Any]:
    reached = success(result)
    return {
        "task": result.task_id,
        "question": result.question,
        "answer": result.answer,
        "gold": " | ".join(result.gold),
        "dataset": of.dataset,
        "agent": of.agent,
        "category": result.category,
        "grade": 2 if reached >= 1 else 1 if reached > 0 else 0,
        "recall": round(result.recall, 4),
        "gain": None,
        "judge": None if result.verdict is None else int(result.verdict),
        "em": result.em,
        "gold_recall": None if result.gold_recall is None else round(result.gold_recall, 4),
        "hops": result.hops or None,
        "searches": result.searches,
        "tokens": result.sampled_tokens,
        "seconds": round(result.seconds, 2),
        "stop": result.stop_reason,
        "failure": result.failure or result.judge_failure,
        "trajectory": result.trajectory.id if result.trajectory is not None else "",
    }
