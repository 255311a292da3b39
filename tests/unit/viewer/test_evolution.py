from __future__ import annotations

import re
from io import StringIO
from typing import Any
from xml.etree import ElementTree

from rich.console import Console

from masksearch_agent.viewer.evolution import draw_evolution, evolution_markdown, evolution_table


def make_round(number: int, **changes: Any) -> dict[str, Any]:
    entry = {
        "round": number,
        "producer": "hindsight" if number == 1 else f"evolve/round_{number - 1}#1f0c93ab",
        "tasks": 200,
        "samples": 1000,
        "accepted": 150,
        "accepted_share": 0.15,
        "trained_on": 150 * number,
        "steps": 90,
    }
    return {**entry, **changes}


REPORT = {
    "title": "evolve, seed <4>",
    "rounds": [make_round(1, samples=200, accepted_share=0.75), make_round(2)],
    "evals": {
        "round_1": {"held_out": {"recall": 0.25, "em": 0.125, "n": 300, "ci95": (0.2, 0.3)}},
        "round_2": {"held_out": {"recall": 0.5, "em": 0.375, "n": 300, "ci95": (0.45, 0.55)}},
    },
    "comparisons": [{"name": "round 2 over round 1, held-out recall", "mean": 0.25, "low": 0.2, "high": 0.3}],
    "stop_reason": "max_rounds",
    "best_round": 2,
    "wall_seconds": 90.0,
    "peak_memory_gb": 1.5,
}


def test_the_markdown_page_has_a_row_a_round() -> None:
    page = evolution_markdown(REPORT)
    rows = [line for line in page.splitlines() if line.startswith("|")][2:]
    assert rows == [
        "| 1 | hindsight | 200 | 200 | 150 (75%) | 150 | 90 | 0.25 ± 0.05 | 0.12 | – |",
        "| 2 | evolve/round_1 | 200 | 1,000 | 150 (15%) | 300 | 90 | 0.50 ± 0.05 | 0.38 | +0.250 (+0.200 to +0.300) |",
    ]
    assert "all rounds were done; the agent is the student of round 2" in page
    assert "on 300 held-out tasks" in page
    assert "1.5 minutes, 1.50 GB" in page


def test_the_terminal_table_fits_eighty_columns() -> None:
    console = Console(width=80, record=True, file=StringIO())
    console.print(evolution_table(REPORT))
    text = console.export_text()
    assert "0.50 ± 0.05" in text
    assert "+0.250 (+0.200 to +0.300)" in text
    assert "…" not in text


def test_the_plot_shows_the_interval_above_and_below_the_recall() -> None:
    svg = draw_evolution(REPORT)
    ElementTree.fromstring(svg)
    assert [float(y) for y in re.findall(r'<circle class="mark" cx="[\d.]+" cy="([\d.]+)"', svg)] == [
        *(163.0, 120.0),  # recall 0.25 and 0.5 between 206 (0) and 34 (1)
        *(77.0, 180.2),  # accepted shares 0.75 and 0.15
    ]
    intervals = re.findall(r'<line class="mark" x1="([\d.]+)" x2="\1" y1="([\d.]+)" y2="([\d.]+)"', svg)
    assert [(float(low), float(high)) for _, low, high in intervals] == [(171.6, 154.4), (128.6, 111.4)]
    assert svg.count("<rect") == 1 + 2 * 2


def test_a_run_of_one_round_has_a_plot() -> None:
    one = {**REPORT, "rounds": [make_round(1)], "comparisons": []}
    ElementTree.fromstring(draw_evolution(one))
