"""Every question of an evaluation as a table that sorts, filters and opens the trajectory behind an answer.

Made for thousands of questions: the rows are JSON that the page's script draws a hundred at a time, and trajectories,
which are most of the bytes, are packed a few dozen at once (gzip, base64) and unpacked when one of them is opened.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterable, Mapping
from typing import Any

from masksearch_agent.agent.escaping import restore
from masksearch_agent.viewer.elements import section
from masksearch_agent.viewer.markup import Markup, join, tag
from masksearch_agent.viewer.tables import label
from masksearch_agent.viewer.trajectories import draw_trajectory

__all__ = ("FIELDS", "QuestionTable")

FIELDS = (
    *("task", "question", "answer", "gold", "dataset", "agent", "category", "grade", "recall", "gain"),
    *("judge", "em", "gold_recall", "hops", "searches", "tokens", "seconds", "stop", "trajectory"),
)
"""What a row holds, in this order. `trajectory` is the trajectory's id, empty where none was kept."""

_COLUMNS = (
    *(
        ("question", "question", None),
        ("answer", "answer", None),
        ("recall", "recall", 2),
        ("gain", "gain", 2),
    ),
    *(("judge", "judge", 0), ("em", "EM", 0), ("gold_recall", "gold found", 2), ("hops", "hops", 0)),
    *(
        ("searches", "searches", 0),
        ("tokens", "tokens", 0),
        ("seconds", "seconds", 1),
        ("stop", "stopped", None),
    ),
    *(("dataset", "dataset", None), ("agent", "agent", None), ("category", "category", None)),
)
"""Field, heading, and decimals of a number or None for text."""
_ALWAYS = {"question", "answer", "recall", "em", "searches", "tokens", "seconds", "stop"}
"""Other columns are shown where they tell questions apart."""
_GRADES = ("wrong", "partly", "right")
_PER_PACK = 32


class QuestionTable:
    """Collects rows with their trajectories, and keeps no more of a trajectory than its packed text."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        """What was added, in order; the page shows what they hold when it is drawn."""
        self._packs: list[str] = []
        self._open: list[Markup] = []

    def add(self, row: Mapping[str, Any], sample: Mapping[str, Any]) -> None:
        """Add a question.

        Args:
            row: Its `FIELDS`; `grade` is an index into wrong, partly and right, what is unknown is None.
            sample: Its trajectory, as `trajectories.draw_sample` takes it.
        """
        self.rows.append(
            {key: restore(value) if isinstance(value, str) else value for key, value in row.items()}
        )
        self._open.append(draw_trajectory(sample))
        if len(self._open) == _PER_PACK:
            self._pack()

    def data(self) -> dict[str, Any]:
        """Return what the script draws the table from."""
        rows = [[row[name] for name in FIELDS] for row in self.rows]
        return {"fields": FIELDS, "rows": rows, "grades": _GRADES, "perPack": _PER_PACK}

    def draw(self) -> Markup:
        """Return the section with the filters, the table without its rows, and the packed trajectories."""
        if not self.rows:
            return Markup()
        self._pack()
        packs = (
            tag("script", pack, type="text/plain", id=f"pack-{number}")
            for number, pack in enumerate(self._packs)
        )
        caption = "A question opens the trajectory behind its answer; a heading sorts."
        table = tag(
            "table",
            tag("caption", caption),
            tag("thead", tag("tr", *self._heads())),
            tag("tbody"),
            id="question-table",
        )
        return section(
            "All questions",
            tag("noscript", tag("p", "The table needs JavaScript.")),
            self._filters(),
            tag("div", table, class_="scroll", role="region", aria_label="All questions", tabindex="0"),
            tag("button", class_="more", type="button", hidden=""),
            *packs,
            class_name="wide",
        )

    def _pack(self) -> None:
        if self._open:
            # Without a time in its header the same rows make the same page.
            packed = gzip.compress(json.dumps(self._open).encode(), compresslevel=6, mtime=0)
            self._packs.append(base64.b64encode(packed).decode())
            self._open = []

    def _values(self, name: str) -> set[Any]:
        return {row[name] for row in self.rows} - {None, ""}

    def _heads(self) -> Iterable[Markup]:
        for name, title, digits in _COLUMNS:
            values = self._values(name)
            if name in _ALWAYS or len(values) > 1 or (values and name in ("judge", "gain", "gold_recall")):
                button = tag("button", title, type="button")
                yield tag("th", button, scope="col", data_field=name, data_digits=digits)

    def _filters(self) -> Markup:
        chosen = (
            ("grade", "result", {"2": "right", "1": "partly right", "0": "wrong"}),
            *(
                (name, name, {text: label(text) for text in sorted(self._values(name))})
                for name in ("dataset", "agent")
            ),
            ("hops", "hops", {str(count): str(count) for count in sorted(self._values("hops"))}),
            ("stop", "stop reason", {text: label(text) for text in sorted(self._values("stop"))}),
        )
        selects = (_select(name, title, options) for name, title, options in chosen if len(options) > 1)
        hint = "words of question or answer"
        text = tag("label", "find ", tag("input", type="search", name="text", placeholder=hint))
        shown = tag("output", aria_live="polite")
        reset = tag("button", "Clear", type="reset")
        return tag(
            "form", text, *selects, reset, shown, class_="filters", role="search", id="question-filters"
        )


def _select(name: str, title: str, options: Mapping[str, str]) -> Markup:
    choices = (tag("option", text, value=value) for value, text in options.items())
    return tag("label", f"{title} ", tag("select", tag("option", "all", value=""), join(choices), name=name))
