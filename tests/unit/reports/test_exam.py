from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from fakes.run_report import run_report, summary
from rich.console import Console

from masksearch_agent.evaluation.intervals import Interval
from masksearch_agent.reports.exam import evidence, exam_table, verdict
from masksearch_agent.reports.markdown import write_pretraining
from masksearch_agent.reports.records import Difference, ExamReport, RunReport, Score, read_report
from masksearch_agent.reports.run_page import headline, render_run, write_run_report
from masksearch_agent.reports.terminal import exam_summary

RECALLS = {"rag-3shot": 0.3, "agent-pe": 0.25, "ramp_sft": 0.4, "ramp_dapo": 0.35}


def exam(served: str = "ramp_sft", over_rival: tuple[float, float, float] = (0.1, 0.05, 0.15)) -> ExamReport:
    scores = tuple(
        Score(agent, dataset, summary(recall, recall - 0.05, recall + 0.05, n))
        for agent, recall in RECALLS.items()
        for dataset, n in (("exam", 200), ("bridge", 40), ("cloze", 80), ("ramp", 80))
    )
    gain = Interval(0.15, 0.1, 0.2)
    differences = (
        Difference(served, "rag-3shot", "exam", Interval(*over_rival), 200),
        Difference(served, "rag-3shot", "exam", Interval(0.02, 0.0, 0.04), 200, "em"),
        *(Difference(served, "agent-pe", "exam", gain, 200, metric) for metric in ("recall", "em")),
    )
    return ExamReport(
        scores=scores,
        differences=differences if served != "agent-pe" else differences[:2],
        validation=tuple(
            Score(agent, "validation", summary(recall, recall - 0.1, recall + 0.1, 100))
            for agent, recall in RECALLS.items()
            if agent != "rag-3shot"
        ),
        served=served,
        start="agent-pe",
        rival="rag-3shot",
        held_out="130 of 1,300 passages; no training task was made from their documents",
    )


@pytest.mark.parametrize(
    ("served", "over", "expected"),
    [
        (
            "ramp_sft",
            (0.1, 0.05, 0.15),
            "Training helped on your documents: recall 0.40 of RAMP SFT beside 0.30 of three-shot RAG with the same "
            "model, a difference of +0.10 (+0.05 to +0.15).",
        ),
        (
            "ramp_sft",
            (0.1, -0.05, 0.25),
            "Training may have helped, which is not sure, on your documents: recall",
        ),
        ("ramp_sft", (-0.01, -0.1, 0.08), "Training did not help on your documents: recall"),
        ("ramp_sft", (-0.1, -0.2, -0.01), "Three-shot RAG wins on your documents: use that instead."),
        ("agent-pe", (-0.1, -0.2, -0.01), "Three-shot RAG wins on your documents: use that instead."),
        (
            "agent-pe",
            (0.1, 0.05, 0.15),
            "Training did not help on your documents: no stage did better than the untrained agent, so that is served. "
            "Recall 0.25 of the untrained agent",
        ),
    ],
)
def test_the_verdict_is_one_of_five(served: str, over: tuple[float, float, float], expected: str) -> None:
    found = exam(served, over)
    assert verdict(found).startswith(expected)
    assert headline(run_report(exam=found)) == verdict(found)


def test_the_evidence_says_what_is_served_and_what_the_exam_is_made_from() -> None:
    assert evidence(exam()) == (
        "RAMP SFT is what is served: it was chosen on 100 other questions, where its recall is 0.40 and that of the "
        "untrained agent 0.25. On the exam it is +0.15 (+0.10 to +0.20) over the untrained agent. The exam has 200 "
        "questions from 130 of 1,300 passages; no training task was made from their documents."
    )
    assert evidence(exam("agent-pe")).startswith(
        "The untrained agent is what is served: it was chosen on 100 other questions, where its recall is 0.25. The "
    )


def test_the_page_opens_with_the_exam_by_category() -> None:
    page = render_run(run_report(exam=exam()))
    assert page.index("The exam on your documents</h2>") < page.index("Scores</h2>")
    for text in (
        "all questions",
        "masks asked as questions",
        "bridge",
        ">served</small>",
        "n = 200",
        "n = 40",
    ):
        assert text in page
    assert "RAMP SFT over RAG-3shot, em on exam" in page
    assert "asked in plain text after three solved examples" in page


def test_markdown_terminal_and_file_say_the_same(tmp_path: Path) -> None:
    report = RunReport(
        "mine", name="mine", seed=0, wall_seconds=1.0, peak_memory_gb=1.0, cores=2, exam=exam()
    )
    write_run_report(report, tmp_path)
    assert read_report(tmp_path) == report
    write_pretraining(report, tmp_path)
    page = (tmp_path / "mine.md").read_text()
    console = Console(width=100, record=True, file=StringIO())
    console.print(exam_summary(exam()))
    shown = " ".join(console.export_text().split())
    assert page.index(verdict(exam())) < page.index("## The exam on your documents")
    assert verdict(exam()) in shown
    assert evidence(exam()) in page
    assert evidence(exam()) in shown
    assert "| RAMP SFT (served) | 0.40 (0.35 to 0.45); em 0.38; n = 200 |" in page
    assert "| RAMP SFT over 3-shot RAG | +0.100 (+0.050 to +0.150) | +0.020 (+0.000 to +0.040) |" in page
    assert "## Scores" not in page


def test_an_agent_that_missed_a_category_has_a_dash_there() -> None:
    scores = (*exam().scores, Score("late", "exam", summary(0.1, 0.0, 0.2, 200)))
    table = exam_table(ExamReport(scores, (), (), "late", "agent-pe", "rag-3shot"))
    assert table.agents[-1] == "late"
    assert table.score("late", "bridge") is None
