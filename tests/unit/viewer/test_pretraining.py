from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

from masksearch_agent.viewer.curves import build_charts, draw_charts_file
from masksearch_agent.viewer.pretraining import pretraining_markdown


def make_cell(recall: float, said: float) -> dict[str, Any]:
    return {
        **{"recall": recall, "ci95": (recall - 0.1, recall + 0.1), "em": 0.25, "n": 50, "searches": 1.5},
        **{"answered": 0.5, "said_recall": said, "said_ci95": (said - 0.1, said + 0.1)},
    }


def make_gain(after: str, before: str, dataset: str, mean: float, low: float) -> dict[str, Any]:
    said = {"mean": mean / 2, "low": low / 2, "high": mean}
    return {
        **{"after": after, "before": before, "dataset": dataset, "n": 50},
        **{"mean": mean, "low": low, "high": 2 * mean, "said": said},
    }


SAMPLE = {
    "title": "hotpot: *1*",
    "question": "Who met <b> at #1?",
    "gold": ["Ann", "Bo"],
    "recall": 0.5,
    "stop_reason": "repairs_exhausted",
    "messages": [
        {"role": "system", "content": "Search until you know."},
        {"role": "user", "content": "Who met <b> at #1?"},
        {"role": "assistant", "content": "<think> I need it.</think><search> quay\npier</search>"},
        {"role": "user", "content": "<information>\n[1] Quay: Ann_Bo <\u2060/information>\n</information>"},
        {"role": "assistant", "content": "Ann"},
    ],
}
REPORT = {
    "name": "laptop",
    "title": "laptop, seed 0",
    "seed": 0,
    "command": "masksearch pretrain corpus.json",
    "base_model": "models/small",
    "wall_seconds": 3000.0,
    "peak_memory_gb": 2.5,
    "cores": 1,
    "versions": {"torch": "2.13.0"},
    "stages": [{"name": "ramp_sft", "seconds": 90.0, "steps": 12, "tokens": 3456}],
    "evals": {
        "rag-pe": {"hotpot": make_cell(0.1, 0.3), "wiki": make_cell(0.1, 0.2)},
        "agent-pe": {"hotpot": make_cell(0.1, 0.2), "wiki": make_cell(0.2, 0.2)},
        "ramp_sft": {"hotpot": make_cell(0.2, 0.2), "wiki": make_cell(0.3, 0.3)},
        "ramp_dapo": {"hotpot": make_cell(0.25, 0.25), "wiki": make_cell(0.3, 0.3)},
    },
    "comparisons": [
        make_gain("ramp_sft", "agent-pe", "hotpot", 0.1, 0.05),
        make_gain("ramp_sft", "agent-pe", "wiki", 0.1, 0.05),
    ],
    "tasks": {"ramp": 1200, "cloze": 80},
    "generation": [{"stage": "ramp", "accepted": 90, "rejected": 10, "reasons": {"no answer": 10}}],
    "curves": [{"stage": "ramp_sft", "metric": "loss", "points": [[1, 2.0], [2, 1.0]]}],
    "samples": [SAMPLE],
}


def test_the_page_has_both_tables_the_differences_and_a_verdict() -> None:
    page = pretraining_markdown(REPORT)
    for line in (
        "    masksearch pretrain corpus.json",
        "50 min 00 s in all on one processor core, 2.50 GB of memory at most.",
        "| RAMP SFT | 0.20 (0.10 to 0.30); em 0.25; 1.5 searches | 0.30 (0.20 to 0.40); em 0.25; 1.5 searches |",
        "| agent, any form of answer | hotpot, n = 50 | wiki, n = 50 |",
        "| RAG-PE: untrained, one retrieval | 0.30 (0.20 to 0.40); answered 50% | 0.20 (0.10 to 0.30); answered 50% |",
        "| RAMP SFT over Agent-PE | +0.100 (+0.050 to +0.200) | +0.100 (+0.050 to +0.200) |",
        "| RAMP SFT over Agent-PE | +0.050 (+0.025 to +0.100) | +0.050 (+0.025 to +0.100) |",
        "| RAMP SFT | 1 min 30 s | 12 | 3,456 |",
        "Tasks made from the passages: 1,200 masked passages, 80 masked sentences asked as questions.",
        "90 of 100 trajectories were accepted (rejected: no answer 10).",
        "![Training curves](laptop.svg)",
    ):
        assert line in page
    assert "difference above 0: on hotpot; not on wiki." in page


def test_a_trajectory_shows_text_from_outside_as_it_was_written() -> None:
    page = pretraining_markdown(REPORT)
    shown = page[page.index("### hotpot") : page.index("## Versions")]
    assert shown.splitlines() == [
        "### hotpot: \\*1\\*",
        "",
        "**Who met \\<b\\> at \\#1?** Gold: Ann \\| Bo. Recall 0.50, repairs exhausted.",
        "",
        "- think: I need it.",
        "- search: quay; pier",
        "- results:",
        "    - \\[1\\] Quay: Ann\\_Bo \\</information\\>",
        "- text: Ann",
        "",
    ]


def test_the_curves_are_a_picture_of_their_own() -> None:
    curves = [
        *REPORT["curves"],
        {"stage": "ramp_dapo", "metric": "loss", "points": [[1, 3.0]]},
        {"stage": "ramp_dapo", "metric": "reward", "points": [[1, 0.5], [4, 0.75]]},
        {"stage": "ramp_dapo", "metric": "format", "points": [[1, 0.5], [4, 0.75]]},
    ]
    svg = draw_charts_file(build_charts(curves))
    root = ElementTree.fromstring(svg)
    assert root.get("viewBox") == "0 0 880 600"
    assert svg.count("<polyline") == 3
    for text in ("RAMP SFT", "RAMP DAPO", ">reward</text>", 'transform="translate(0 300)"'):
        assert text in svg
