from __future__ import annotations

import re
from io import StringIO
from typing import Any
from xml.etree import ElementTree

from rich.console import Console

from masksearch_agent.viewer.ablation import ablation_markdown, claims_table, draw_claims, draw_experiment


def cell(recall: float, half: float = 0.05) -> dict[str, Any]:
    return {
        **{"recall": recall, "ci95": [recall - half, recall + half], "em": 0.25, "length": 1.5},
        **{"searches": 2.0, "n": 200},
    }


def claim(text: str, verdict: str, mean: float, *pairs: str) -> dict[str, Any]:
    gain = {"mean": mean, "low": mean - 0.1, "high": mean + 0.1}
    return {
        **{"claim": text, "source": "MaskSearch", "measure": "recall", "gain": gain, "verdict": verdict},
        **{"seeds": 3, "questions": 200, "pairs": [{"after": a, "before": "SFT", **gain} for a in pairs]},
    }


TABLE = {
    "name": "table",
    "title": "The paper's table",
    "columns": ["in domain", "out of domain", "qa_2hop"],
    "rows": [
        {
            "arm": name,
            "seeds": 3,
            "tokens": tokens,
            "cells": {"in domain": cell(recall), "out of domain": cell(0.25), "qa_2hop": cell(recall)},
        }
        for name, tokens, recall in (("RAG-PE", 0, 0.1), ("SFT", 1_250_000, 0.5))
    ],
}
REWARDS = {
    "name": "rewards",
    "title": "Answer rewards",
    "columns": ["ramp"],
    "rows": [{"arm": "exact_match", "seeds": 3, "tokens": None, "cells": {"ramp": cell(0.75)}}],
}
REPORT = {
    "title": "ablate",
    "seeds": [0, 1, 2],
    "smallest_gain": 0.02,
    "claims": [
        claim("Pre-training <helps>", "reproduced", 0.25, "SFT+SFT", "RL+SFT"),
        claim("A curriculum helps", "undecided at this scale", 0.0, "curriculum"),
    ],
    "experiments": [TABLE, REWARDS],
    "stage_seconds": 5400.0,
    "peak_memory_gb": 1.25,
    "versions": {"torch": "2.13.0"},
}


def test_the_page_has_a_row_a_claim_and_its_pairs_below_it() -> None:
    rows = [line for line in ablation_markdown(REPORT).splitlines() if line.startswith("|")]
    assert rows[2:6] == [
        "| Pre-training <helps> | MaskSearch | recall, 200 questions × 3 | +0.250 (+0.150 to +0.350) | "
        "**reproduced** |",
        "| – SFT+SFT over SFT |  |  | +0.250 (+0.150 to +0.350) |  |",
        "| – RL+SFT over SFT |  |  | +0.250 (+0.150 to +0.350) |  |",
        "| A curriculum helps | MaskSearch | recall, 200 questions × 3 | +0.000 (-0.100 to +0.100) | "
        "**undecided at this scale** |",
    ]


def test_a_table_of_questions_has_a_column_a_kind_and_one_of_masks_a_column_a_measure() -> None:
    page = ablation_markdown(REPORT)
    rows = [line for line in page.splitlines() if line.startswith("|")][6:]
    assert rows == [
        "| agent | in domain | out of domain | QA 2-hop | tokens trained |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| RAG-PE | 0.10 ± 0.05 | 0.25 ± 0.05 | 0.10 ± 0.05 | 0.00 M |",
        "| SFT | 0.50 ± 0.05 | 0.25 ± 0.05 | 0.50 ± 0.05 | 1.25 M |",
        "| agent | recall | exact match | answer length | searches | tokens trained |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| exact match | 0.75 ± 0.05 | 0.25 | 1.50 | 2.0 | – |",
    ]
    assert page.startswith("# Ablations: ablate, seeds 0, 1, 2\n")
    assert "1.5 hours in all, 1.2 GB" in page
    assert "lies below 0.02" in page


def test_the_terminal_table_says_what_became_of_each_claim() -> None:
    console = Console(width=120, record=True, file=StringIO())
    console.print(claims_table(REPORT))
    text = console.export_text()
    assert "+0.250 (+0.150 to +0.350)" in text
    assert "undecided at this scale" in text


def places(svg: str, series: int) -> list[tuple[float, float, float]]:
    """Return low, mean and high of each mark, from left to right in the drawing."""
    lines = re.findall(rf'<line class="series-{series}" x1="([\d.]+)" x2="([\d.]+)"', svg)
    dots = re.findall(rf'<circle class="series-{series}" cx="([\d.]+)" cy="[\d.]+" r="3.5"', svg)
    return [(float(low), float(mean), float(high)) for (low, high), mean in zip(lines, dots, strict=True)]


def test_the_plots_show_each_interval_around_its_mean() -> None:
    svg = draw_experiment(TABLE)
    ElementTree.fromstring(svg)
    # Recall 0 is at 450, 1 at 900.
    assert places(svg, 1) == [(472.5, 495.0, 517.5), (652.5, 675.0, 697.5)]
    assert places(svg, 2) == [(540.0, 562.5, 585.0)] * 2
    assert svg.count("in domain") == 1
    assert "in domain" not in draw_experiment(REWARDS)
    claims = draw_claims(REPORT)
    ElementTree.fromstring(claims)
    assert "&lt;helps&gt;" in claims
    first, second = places(claims, 1)
    zero = float(re.findall(r'<line class="zero" x1="([\d.]+)"', claims)[0])
    assert first[0] > zero
    assert second[0] < second[1] == zero < second[2]
