"""How names and figures are written for readers, on pages, in Markdown and on the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence

from masksearch_agent.evaluation.intervals import Interval
from masksearch_agent.reports.records import RunReport, Score

__all__ = ("ROW_NOTES", "best_recalls", "difference", "duration", "label", "question_count", "score")

_ABBREVIATIONS = re.compile(r"\b(dapo|pe|qa|rag|ramp|sft)\b")
_OF_EARLIER_VERSIONS = re.compile(r"\bfinal\b")
"""What reports called `agent`."""
ROW_NOTES = {
    "untrained": "the model before it learned to search",
    "rag": "one retrieval with the question itself, then an answer",
    "ramp_sft": "after supervised fine-tuning on masked passages",
    "ramp_dapo": "after RAMP SFT and reinforcement learning on masked passages",
    "qa_sft": "after RAMP and supervised fine-tuning on questions",
    **dict.fromkeys(("agent", "final"), "what the run made: after RAMP and training on questions"),
    "agentic": "the agent, searching as often as it wants",
    "rag-pe": "the untrained model, one retrieval with the question itself",
    "rag-3shot": "the untrained model, one retrieval, asked in plain text after three solved examples",
    "agent-pe": "the untrained model, searching as often as it wants",
}
"""What the rows of a table of scores are."""


def label(name: str) -> str:
    """Return the name of a row, column or stage as a reader wants it: `qa_2hop` is `QA 2-hop`."""
    name = _OF_EARLIER_VERSIONS.sub("agent", name.replace("_", " "))
    spaced = re.sub(r"(\d)hop\b", r"\1-hop", name)
    return _ABBREVIATIONS.sub(lambda match: match[0].upper(), spaced)


def score(found: Score | None) -> str:
    """Return a score as `0.61 ± 0.06`: the mean recall and half of its 95% interval; a dash where there is none."""
    if found is None:
        return "–"
    low, high = found.summary.ci95
    return f"{found.summary.recall:.2f} ± {(high - low) / 2:.2f}"


def difference(gain: Interval, digits: int = 3) -> str:
    """Return a difference with its interval: `+0.030 (+0.010 to +0.050)`."""
    mean, low, high = (f"{value:+.{digits}f}" for value in (gain.mean, gain.low, gain.high))
    return f"{mean} ({low} to {high})"


def question_count(report: RunReport, dataset: str) -> str:
    """Return a dataset's number of questions as `n = 120`, or an empty text where agents disagree on it."""
    counts = {found.summary.n for found in report.scores if found.dataset == dataset}
    return f"n = {counts.pop()}" if len(counts) == 1 else ""


def best_recalls(scores: Sequence[Score]) -> dict[str, float]:
    """Return the highest recall of each dataset where it is above 0; nothing is best where all agents failed."""
    best: dict[str, float] = {}
    for found in scores:
        best[found.dataset] = max(found.summary.recall, best.get(found.dataset, 0.0))
    return {dataset: recall for dataset, recall in best.items() if recall > 0}


def duration(seconds: float) -> str:
    """Return a time in the two units that matter: `48.3 s`, `3 min 12 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    return f"{minutes} min {rest_s:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
