"""FreshQA (Vu et al., arXiv 2310.03214), its table; development rows, its examples for prompts, are left out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path

from masksearch_agent.benchmarks import Benchmark, PlacedRow, Row, make_question
from masksearch_agent.records import FALSE_PREMISE, SearchTask

__all__ = ("BENCHMARK",)


_REVIEW_DATES = ("%m/%d/%Y", "%m/%d/%y", "%Y-%m-%d", "%B %d, %Y", "%b %d, %Y")
_log = logging.getLogger(__name__)


def _task(row: Row) -> SearchTask | None:
    if row.get("split", "TEST").strip().upper() == "DEV":
        return None
    is_false = str(row["false_premise"]).strip().upper() == "TRUE"
    answers = [row.get(f"answer_{number}") for number in range(10)]
    category = FALSE_PREMISE if is_false else row["fact_type"].strip()
    return make_question(row["id"], row["question"], answers, category=category)


def _warn_of_stale_answers(rows: Iterator[PlacedRow], source: Path | str) -> Iterator[PlacedRow]:
    """Pass the rows on and warn of answers that were to be reviewed by now: the world has moved on."""
    due = 0
    for where, row in rows:
        review = _review_date(str(row.get("next_review") or ""))
        due += review is not None and review < date.today()
        yield where, row
    if due:
        _log.warning(
            "%s: %d answers were due for review before today and may be outdated; download the latest FreshQA table",
            source,
            due,
        )


def _review_date(text: str) -> date | None:
    for form in _REVIEW_DATES:
        try:
            return datetime.strptime(text.strip(), form).date()
        except ValueError:
            continue
    return None  # "weekly", "occasionally": no day is named.


BENCHMARK = Benchmark(
    keys=("question", "false_premise", "fact_type", "answer_0"), task=_task, prepare=_warn_of_stale_answers
)
