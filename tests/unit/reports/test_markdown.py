from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from fakes.run_report import run_report, sample, summary
from rich.console import Console

from masksearch_agent.evaluation.intervals import Interval
from masksearch_agent.records import Message
from masksearch_agent.reports.markdown import draw_rounds, summarise_runs, write_evolution, write_pretraining
from masksearch_agent.reports.records import Curve, Difference, Generation, Round, RunReport, Score, StageCost
from masksearch_agent.reports.terminal import rounds_table


def test_several_runs_begin_with_their_mean() -> None:
    first = run_report(wall_seconds=60.0, retrieval=())
    scores = (*first.scores[:2], Score("agent", "ramp", summary(0.81, 0.75, 0.87, 200)), first.scores[3])
    page = summarise_runs([first, run_report(seed=8, scores=scores, retrieval=())])
    mean, one, _ = page.split("## Seed ")
    assert "## Mean of 2 seeds" in mean
    assert "| agent | RAMP | QA 2-hop |\n| --- | ---: | ---: |\n| untrained | 0.05 | 0.03 |\n" in mean
    assert "| agent | 0.76 | 0.62 |" in mean
    assert (
        "| agent | RAMP, n = 200 | QA 2-hop, n = 120 |\n| --- | ---: | ---: |\n"
        "| untrained | 0.05 ± 0.03 | 0.03 ± 0.02 |\n"
        "| agent | **0.71 ± 0.06** | **0.62 ± 0.09** |\n"
    ) in one
    assert "- agent over untrained, recall on ramp: +0.660 (95% +0.580 to +0.740, n = 200)" in one
    assert "- 1.0 minutes, 2.13 GB of memory at most" in one


def test_one_run_has_no_mean() -> None:
    assert "Mean" not in summarise_runs([run_report()])


def evolution() -> RunReport:
    first = Round(1, "hindsight", 200, 200, 150, 150, 0.2, steps=90)
    second = Round(2, "evolve/round_1#1f0c93ab", 200, 1000, 150, 300, 0.5, steps=90)
    return RunReport(
        "evolve, seed <4>",
        rounds=(first, second),
        scores=(
            Score("round_1", "test", summary(0.25, 0.2, 0.3, 300, em=0.125)),
            Score("round_2", "test", summary(0.5, 0.45, 0.55, 300, em=0.375)),
        ),
        differences=(Difference("round_2", "round_1", "test", Interval(0.25, 0.2, 0.3), 300),),
        stop_reason="max_rounds",
        best_round=2,
        wall_seconds=90.0,
        peak_memory_gb=1.5,
    )


def test_the_page_of_an_evolution_has_a_row_a_round(tmp_path: Path) -> None:
    write_evolution(evolution(), tmp_path)
    page = (tmp_path / "report.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("|")][2:]
    assert rows == [
        "| 1 | hindsight | 200 | 200 | 150 (75%) | 150 | 90 | 0.25 ± 0.05 | 0.12 | – |",
        "| 2 | evolve/round_1 | 200 | 1,000 | 150 (15%) | 300 | 90 | 0.50 ± 0.05 | 0.38 | +0.250 (+0.200 to +0.300) |",
    ]
    assert "all rounds were done; the agent is the student of round 2" in page
    assert "on 300 held-out tasks" in page
    assert "1.5 minutes, 1.50 GB" in page
    ElementTree.parse(tmp_path / "evolution.svg")


def test_the_plot_shows_recall_shares_and_counts() -> None:
    svg = draw_rounds(evolution())
    for text in ("held-out recall, 95% interval", "accepted share of the attempts", "trained on"):
        assert text in svg


def test_the_terminal_table_of_rounds_fits_eighty_columns() -> None:
    console = Console(width=80, record=True, file=StringIO())
    console.print(rounds_table(evolution()))
    text = console.export_text()
    assert "0.50 ± 0.05" in text
    assert "+0.250 (+0.200 to +0.300)" in text
    assert "…" not in text


def pretraining() -> RunReport:
    def score(agent: str, dataset: str, recall: float, said: float) -> Score:
        cell = summary(recall, recall - 0.1, recall + 0.1, 50, em=0.25, searches=1.5)
        return Score(agent, dataset, cell, Interval(said, said - 0.1, said + 0.1), 0.5)

    def gain(dataset: str) -> Difference:
        said = Interval(0.05, 0.025, 0.1)
        return Difference("ramp_sft", "agent-pe", dataset, Interval(0.1, 0.05, 0.2), 50, said=said)

    recalls: dict[str, Any] = {
        "rag-pe": ((0.1, 0.3), (0.1, 0.2)),
        "agent-pe": ((0.1, 0.2), (0.2, 0.2)),
        "ramp_sft": ((0.2, 0.2), (0.3, 0.3)),
        "ramp_dapo": ((0.25, 0.25), (0.3, 0.3)),
    }
    messages = (
        Message("system", "Search until you know."),
        Message("user", "Who met <b> at #1?"),
        Message("assistant", "<think> I need it.</think><search> quay\npier</search>"),
        Message("user", "<information>\n[1] Quay: Ann_Bo <\u2060/information>\n</information>"),
        Message("assistant", "Ann"),
    )
    return RunReport(
        "laptop, seed 0",
        name="laptop",
        seed=0,
        command="masksearch pretrain corpus.json",
        base_model="models/small",
        wall_seconds=3000.0,
        peak_memory_gb=2.5,
        cores=1,
        versions={"torch": "2.13.0"},
        stages=(StageCost("ramp_sft", 90.0, 3456, 12),),
        scores=tuple(
            score(agent, dataset, *cell)
            for agent, cells in recalls.items()
            for dataset, cell in zip(("hotpot", "wiki"), cells, strict=True)
        ),
        differences=(gain("hotpot"), gain("wiki")),
        tasks={"ramp": 1200, "cloze": 80},
        generation=(Generation("ramp", 90, 10, {"no answer": 10}),),
        curves=(Curve("ramp_sft", "loss", ((1, 2.0), (2, 1.0))),),
        samples=(
            sample(
                "hotpot: *1*",
                question="Who met <b> at #1?",
                gold=("Ann", "Bo"),
                recall=0.5,
                stop_reason="repairs_exhausted",
                messages=messages,
            ),
        ),
    )


def test_the_page_of_a_pretraining_has_both_tables_the_differences_and_a_verdict(tmp_path: Path) -> None:
    write_pretraining(pretraining(), tmp_path)
    page = (tmp_path / "laptop.md").read_text()
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
    for line in page.splitlines():
        assert not line.startswith("| ---") or line.endswith("|")
    ElementTree.parse(tmp_path / "laptop.svg")


def test_a_trajectory_shows_text_from_outside_as_it_was_written(tmp_path: Path) -> None:
    write_pretraining(pretraining(), tmp_path)
    page = (tmp_path / "laptop.md").read_text()
    shown = page[page.index("### hotpot") : page.index("## Versions")]
    assert [line for line in shown.splitlines() if line] == [
        "### hotpot: \\*1\\*",
        "**Who met \\<b\\> at \\#1?** Gold: Ann \\| Bo. Recall 0.50, repairs exhausted.",
        "- think: I need it.",
        "- search: quay; pier",
        "- results:",
        "    - \\[1\\] Quay: Ann\\_Bo \\</information\\>",
        "- text: Ann",
    ]
