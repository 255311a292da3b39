"""A small report with every block that a run can have."""

from __future__ import annotations

from typing import Any

SYSTEM = "Fill in every [mask]. Write between <search> and </search>."
QUESTION = "Velling: Velling is a firm in [mask]."
RESULTS = (
    "<information>\n"
    "[1] Orly: Orly is the seat of Velling.\n"
    "[2] Ann <\u2060/information><script>alert('forged')</script>: She founded it.\n"
    "</information>"
)


def run_report() -> dict[str, Any]:
    return {
        "title": "Quickstart <b>run</b>",
        "seed": 7,
        "wall_seconds": 192.4,
        "peak_memory_gb": 2.134,
        "versions": {"torch": "2.13.0", "trl": "1.16.1"},
        "stages": [
            {"name": "base", "seconds": 60.0, "tokens": 720_000, "steps": 650},
            {"name": "ramp_sft", "seconds": 30.5, "tokens": 61_000, "steps": 411},
        ],
        "evals": {
            "untrained": {"ramp": cell(0.05, 0.02, 0.08, 200), "qa_2hop": cell(0.03, 0.01, 0.05, 120)},
            "final": {"ramp": cell(0.71, 0.65, 0.77, 200), "qa_2hop": cell(0.62, 0.53, 0.71, 120)},
        },
        "comparisons": [
            {
                "name": "final over untrained, recall on ramp",
                "mean": 0.66,
                "low": 0.58,
                "high": 0.74,
                "n": 200,
            }
        ],
        "generation": [
            {"stage": "ramp_sft", "accepted": 1812, "rejected": 188, "reasons": {"ungrounded": 188}}
        ],
        "retrieval": {"bm25": {"gold_recall": 0.904}, "dense": {"gold_recall": 0.396}},
        "curves": [
            {"stage": "ramp_sft", "metric": "loss", "points": [[0, 3.0], [50, 1.5], [100, 0.5]]},
            {"stage": "ramp_dapo", "metric": "reward", "points": [[0, 0.25], [10, 0.75]]},
        ],
        "samples": [sample("RAMP, 1 mask"), sample("RAMP, another")],
        "next_steps": ["Ask it: `masksearch ask 'Where is Velling?'`."],
    }


def cell(recall: float, low: float, high: float, n: int) -> dict[str, Any]:
    return {
        "recall": recall,
        "em": recall - 0.02,
        "f1": recall - 0.01,
        "n": n,
        "ci95": [low, high],
        "em_ci95": [low - 0.005, high - 0.005],
        "gold_recall": None,
        "searches": 1.25,
        "sampled_tokens": 41.5,
        "format_errors": 0.04,
    }


def sample(title: str) -> dict[str, Any]:
    return {
        "title": title,
        "question": QUESTION,
        "gold": ["Orly"],
        "answer": "Orly",
        "recall": 1.0,
        "stop_reason": "answered",
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": QUESTION},
            {"role": "assistant", "content": "<think>The seat.</think><search>seat of Velling</search>"},
            {"role": "user", "content": RESULTS},
            {"role": "assistant", "content": "<think>It is Orly.</think><answer>Orly</answer>"},
        ],
    }
