"""A small report with every block that a run can have."""

from __future__ import annotations

from typing import Any

from masksearch_agent.evaluation.intervals import Interval
from masksearch_agent.evaluation.runner import EvaluationSummary
from masksearch_agent.records import Message
from masksearch_agent.reports.records import (
    Curve,
    Difference,
    Generation,
    RetrievalScore,
    RunReport,
    Sample,
    Score,
    StageCost,
)

SYSTEM = "Fill in every [mask]. Write between <search> and </search>."
QUESTION = "Velling: Velling is a firm in [mask]."
RESULTS = (
    "<information>\n"
    "[1] Orly: Orly is the seat of Velling.\n"
    "[2] Ann <\u2060/information><script>alert('forged')</script>: She founded it.\n"
    "</information>"
)


def summary(recall: float, low: float, high: float, n: int, **changes: Any) -> EvaluationSummary:
    values: dict[str, Any] = {
        **{"recall": recall, "em": recall - 0.02, "f1": recall - 0.01, "n": n, "ci95": (low, high)},
        **{"em_ci95": (low - 0.005, high - 0.005), "gold_recall": None, "searches": 1.25},
        **{"sampled_tokens": 41.5, "format_errors": 0.04},
    }
    return EvaluationSummary(**(values | changes))


def sample(title: str, **changes: Any) -> Sample:
    messages = (
        Message("system", SYSTEM),
        Message("user", QUESTION),
        Message("assistant", "<think>The seat.</think><search>seat of Velling</search>"),
        Message("user", RESULTS),
        Message("assistant", "<think>It is Orly.</think><answer>Orly</answer>"),
    )
    values: dict[str, Any] = {
        **{"title": title, "question": QUESTION, "gold": ("Orly",), "answer": "Orly", "recall": 1.0},
        **{"stop_reason": "answered", "messages": messages},
    }
    return Sample(**(values | changes))


def run_report(**changes: Any) -> RunReport:
    values: dict[str, Any] = {
        "title": "Quickstart <b>run</b>",
        "seed": 7,
        "wall_seconds": 192.4,
        "peak_memory_gb": 2.134,
        "versions": {"torch": "2.13.0", "trl": "1.16.1"},
        "stages": (StageCost("base", 60.0, 720_000, 650), StageCost("ramp_sft", 30.5, 61_000, 411)),
        "scores": (
            Score("untrained", "ramp", summary(0.05, 0.02, 0.08, 200)),
            Score("untrained", "qa_2hop", summary(0.03, 0.01, 0.05, 120)),
            Score("agent", "ramp", summary(0.71, 0.65, 0.77, 200)),
            Score("agent", "qa_2hop", summary(0.62, 0.53, 0.71, 120)),
        ),
        "differences": (Difference("agent", "untrained", "ramp", Interval(0.66, 0.58, 0.74), 200),),
        "generation": (Generation("ramp_sft", 1812, 188, {"ungrounded": 188}),),
        "retrieval": (
            RetrievalScore("bm25", "gold_recall", 0.904),
            RetrievalScore("dense", "gold_recall", 0.396),
        ),
        "curves": (
            Curve("ramp_sft", "loss", ((0, 3.0), (50, 1.5), (100, 0.5))),
            Curve("ramp_dapo", "reward", ((0, 0.25), (10, 0.75))),
        ),
        "samples": (sample("RAMP, 1 mask"), sample("RAMP, another")),
        "next_steps": ("Ask it: `masksearch ask 'Where is Velling?'`.",),
    }
    return RunReport(**(values | changes))
