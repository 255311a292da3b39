from __future__ import annotations

from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from masksearch_agent.evaluation.intervals import Interval
from masksearch_agent.lab.ablation_claims import AssessedClaim, AssessedPair, Verdict
from masksearch_agent.lab.ablation_report import (
    AblationReport,
    ArmRow,
    Cell,
    Comparison,
    claims_table,
    write_ablation_report,
)


def cell(recall: float, half: float = 0.05) -> Cell:
    return Cell(Interval(recall, recall - half, recall + half), em=0.25, length=1.5, searches=2.0, n=200)


def claim(text: str, verdict: Verdict, mean: float, *pairs: str) -> AssessedClaim:
    gain = Interval(mean, mean - 0.1, mean + 0.1)
    tested = tuple(AssessedPair(after, "SFT", gain) for after in pairs)
    return AssessedClaim(text, "MaskSearch", "table", "recall", ("ramp",), gain, verdict, tested, 3, 200)


TABLE = Comparison(
    "table",
    "The paper's table",
    ("in domain", "out of domain", "qa_2hop"),
    tuple(
        ArmRow(
            name, 3, {"in domain": cell(recall), "out of domain": cell(0.25), "qa_2hop": cell(recall)}, tokens
        )
        for name, tokens, recall in (("RAG-PE", 0.0, 0.1), ("SFT", 1_250_000.0, 0.5))
    ),
)
REWARDS = Comparison(
    "rewards", "Answer rewards", ("ramp",), (ArmRow("exact_match", 3, {"ramp": cell(0.75)}, None),)
)
REPORT = AblationReport(
    title="ablate",
    seeds=(0, 1, 2),
    smallest_gain=0.02,
    claims=(
        claim("Pre-training <helps>", "reproduced", 0.25, "SFT+SFT", "RL+SFT"),
        claim("A curriculum helps", "undecided at this scale", 0.0, "curriculum"),
    ),
    experiments=(TABLE, REWARDS),
    stage_seconds=5400.0,
    peak_memory_gb=1.25,
    versions={"torch": "2.13.0"},
)


@pytest.fixture
def page(tmp_path: Path) -> str:
    write_ablation_report(REPORT, tmp_path)
    return (tmp_path / "ablation.md").read_text()


def test_the_page_has_a_row_a_claim_and_its_pairs_below_it(page: str) -> None:
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert rows[2:6] == [
        "| Pre-training <helps> | MaskSearch | recall, 200 questions × 3 | +0.250 (+0.150 to +0.350) | "
        "**reproduced** |",
        "| – SFT+SFT over SFT |  |  | +0.250 (+0.150 to +0.350) |  |",
        "| – RL+SFT over SFT |  |  | +0.250 (+0.150 to +0.350) |  |",
        "| A curriculum helps | MaskSearch | recall, 200 questions × 3 | +0.000 (-0.100 to +0.100) | "
        "**undecided at this scale** |",
    ]


def test_a_table_of_questions_has_a_column_a_kind_and_one_of_masks_a_column_a_measure(page: str) -> None:
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


def test_every_comparison_has_a_plot(page: str, tmp_path: Path) -> None:
    plots = {name: (tmp_path / f"ablation-{name}.svg").read_text() for name in ("claims", "table", "rewards")}
    for svg in plots.values():
        ElementTree.fromstring(svg)
    assert plots["table"].count(">in domain</text>") == 1
    assert ">in domain</text>" not in plots["rewards"]
    assert "&lt;helps&gt;" in plots["claims"]
    assert "difference in the direction of the claim" in plots["claims"]
