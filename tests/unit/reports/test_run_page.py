from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fakes.run_report import run_report, sample, summary

from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.intervals import Interval
from masksearch_agent.jsonl import dump_record
from masksearch_agent.reports.records import (
    Curve,
    Difference,
    Generation,
    RetrievalScore,
    Round,
    RunReport,
    Score,
    StageCost,
    read_report,
)
from masksearch_agent.reports.run_page import headline, render_run, sureness, write_run_report

BLOCKS = ("scores", "differences", "curves", "samples", "stages", "generation", "retrieval", "next_steps")
FORGED = "</script></title></table><script>alert(1)</script><!-- {{ body }} {% if %}"


class Outline(HTMLParser):
    """Collects elements and attributes, and checks that every element is closed."""

    VOID = frozenset({"link", "meta", "input"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.headings: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "h2":
            self.headings.append(data)


def forge(value: Any) -> Any:
    """Replace every string in a record by a forged one, keys of mappings included."""
    match value:
        case str():
            return FORGED
        case tuple():
            return tuple(forge(item) for item in value)
        case dict():
            return {forge(key): forge(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value):
        fields = {f.name: forge(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return type(value)(**fields)
    return value


def test_sections_come_in_the_order_of_interest() -> None:
    assert Outline(render_run(run_report())).headings == [
        *("Scores", "Comparisons", "Training", "Sample trajectories"),
        *("Time and memory", "Generation", "Retrieval", "Next steps"),
    ]


def test_no_text_of_a_report_becomes_markup() -> None:
    page = render_run(forge(run_report()))
    assert Outline(page).tags.count("script") == 1
    assert "<!-- " not in page
    assert "<script>alert" not in page
    assert "{{ body }}" in page, "placeholders in outside text stay text"


@pytest.mark.parametrize("missing", BLOCKS)
def test_every_block_may_be_missing(missing: str) -> None:
    assert Outline(render_run(run_report(**{missing: ()}))).tags.count("script") == 1


def test_an_empty_report_has_a_page() -> None:
    page = render_run(RunReport(""))
    assert "Nothing was evaluated" in page
    assert Outline(page).headings == []


def test_the_page_loads_nothing() -> None:
    page = render_run(run_report())
    outline = Outline(page)
    links = {value for name, value in outline.attributes if name in ("src", "href", "xlink:href")}
    assert links == {"data:,"}
    assert not {"img", "iframe", "object", "embed", "base"} & set(outline.tags)
    assert not re.search(r"https?://(?!www\.w3\.org/)|url\((?!#)|@import", page)
    assert "default-src 'none'" in page


def test_no_script_but_the_pages_own_may_run() -> None:
    page = render_run(run_report())
    policy = re.search(r"script-src ([^;]*);", page)
    code = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert policy is not None
    assert code is not None
    assert policy[1] == f"'sha256-{base64.b64encode(hashlib.sha256(code[1].encode()).digest()).decode()}'"


def test_tables_and_charts_can_be_read_aloud() -> None:
    page = render_run(run_report())
    outline = Outline(page)
    assert outline.tags.count("caption") == outline.tags.count("table") == 6
    assert outline.tags.count("svg") == 3
    assert 'aria-label="training step: 100; loss: 0.5; stage: RAMP SFT"' in page
    assert ("lang", "en") in outline.attributes


def test_the_same_report_makes_the_same_page() -> None:
    assert render_run(run_report()) == render_run(run_report())


def test_both_files_are_written_and_read_again(tmp_path: Path) -> None:
    write_run_report(run_report(), tmp_path / "runs" / "first")
    folder = tmp_path / "runs" / "first"
    assert {path.name for path in folder.iterdir()} == {"report.json", "report.html"}
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == dump_record(run_report())
    assert read_report(folder) == run_report()
    assert (folder / "report.html").read_text(encoding="utf-8") == render_run(run_report())


def test_a_report_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    cell = {
        **{"recall": 0.5, "em": 0.4, "f1": 0.45, "n": 9, "ci95": [0.4, 0.6], "em_ci95": [0.3, 0.5]},
        **{"gold_recall": None, "searches": 1.0, "sampled_tokens": 9.0, "format_errors": 0.0},
    }
    old = {
        **{"title": "quickstart, seed 0", "seed": 0, "wall_seconds": 60.0, "peak_memory_gb": 1.5},
        "evals": {"untrained": {"qa_2hop": cell}, "final": {"qa_2hop": cell}},
        "comparisons": [
            {"name": "final over untrained, recall on qa_2hop", "mean": 0.1, "low": 0.0, "high": 0.2, "n": 9}
        ],
        "retrieval": {"bm25": {"answer in top 2": 0.75}},
        "stages": [{"name": "world", "seconds": 1.0, "tokens": 0, "steps": 0}],
        "curves": [{"stage": "agent", "metric": "loss", "points": [[10, 1.5]]}],
        "generation": [{"stage": "qa", "accepted": 3, "rejected": 1, "reasons": {"no answer": 1}}],
        "samples": [dump_record(sample("Two hops"))],
        "next_steps": ["Go on."],
    }
    (tmp_path / "report.json").write_text(json.dumps(old))
    report = read_report(tmp_path)
    found = report.score("final", "qa_2hop")
    assert found is not None
    assert (found.summary.recall, found.summary.ci95) == (0.5, (0.4, 0.6))
    assert report.differences == (Difference("final", "untrained", "qa_2hop", Interval(0.1, 0.0, 0.2), 9),)
    assert report.retrieval == (RetrievalScore("bm25", "answer in top 2", 0.75),)
    assert report.curves == (Curve("agent", "loss", ((10, 1.5),)),)
    assert report.samples == (sample("Two hops"),)
    assert "went from 0.50 untrained to 0.50 agent" in headline(report)


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"no report at .*report.json"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text('{"format_version": 1, "tittle": "x"}')
    with pytest.raises(EvaluationError, match="not a report that this version reads"):
        read_report(tmp_path)


def test_the_headline_compares_what_was_made_with_the_untrained_model_on_two_hops() -> None:
    assert headline(run_report()) == "Recall on QA 2-hop went from 0.03 untrained to 0.62 agent."
    expected = "95% intervals: 0.01–0.05 untrained, 0.53–0.71 agent; 120 questions."
    assert sureness(run_report()) == expected


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((), "Nothing was evaluated in this run."),
        (
            (Score("untrained", "ramp", summary(0.1, 0.0, 0.2, 9)),),
            "Recall on RAMP is 0.10 for untrained.",
        ),
        (
            (Score("ramp_sft", "qa_2hop", summary(0.3, 0.2, 0.4, 9)),),
            "Recall on QA 2-hop is 0.30 for RAMP SFT.",
        ),
        (
            (
                Score("untrained", "ramp", summary(0.5, 0.4, 0.6, 9)),
                Score("ramp_sft", "ramp", summary(0.4, 0.3, 0.5, 9)),
            ),
            "Recall on RAMP went from 0.50 untrained to 0.40 RAMP SFT.",
        ),
    ],
)
def test_the_headline_makes_do_with_what_there_is(scores: tuple[Score, ...], expected: str) -> None:
    assert headline(RunReport("", scores=scores)) == expected


def test_every_metric_of_a_score_is_on_the_page() -> None:
    page = render_run(RunReport("", scores=(Score("agent", "ramp", summary(0.71, 0.65, 0.77, 200)),)))
    for text in ("<b>0.71</b>", "± 0.06", "em 0.69", ">n = 200<"):
        assert text in page
    for text in ("0.710", "0.650–0.770", "0.690", "0.645–0.765", "0.700", "–", "1.25", "41.5", "0.04"):
        assert f">{text}</td>" in page
    assert 'style="--low:0.6500;--mean:0.7100;--high:0.7700"' in page
    assert page.count("score best") == 1


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.1, 0.3, "good"), (-0.3, -0.1, "bad"), (-0.1, 0.3, "even")]
)
def test_a_comparison_is_coloured_only_where_its_interval_excludes_zero(
    low: float, high: float, verdict: str
) -> None:
    found = Difference("a", "b", "c", Interval((low + high) / 2, low, high), 50)
    page = render_run(RunReport("", differences=(found,)))
    assert f'class="number {verdict}"' in page
    assert f"({low:+.2f} to {high:+.2f})" in page
    assert ">50</td>" in page


def test_stages_show_time_steps_tokens_and_speed() -> None:
    page = render_run(run_report())
    for text in ("1 min 00 s", "650", "720,000", "12,000", "30.5 s", "411", "61,000", "2,000"):
        assert f">{text}</td>" in page
    for text in ("3 min 12 s", "2.13 GB", "7"):
        assert f"<dd>{text}</dd>" in page
    idle = render_run(RunReport("", stages=(StageCost("index", 0.0),)))
    assert idle.count(">–</td>") == 3


def test_generation_shows_its_yield_and_why_the_rest_was_rejected() -> None:
    page = render_run(run_report())
    for text in ("1,812", "188", "91%", "ungrounded (188)"):
        assert f">{text}</td>" in page
    assert ">0%</td>" in render_run(RunReport("", generation=(Generation("a", 0, 0),)))


def test_retrievers_show_every_metric_of_any_of_them() -> None:
    measured = (RetrievalScore("bm25", "gold_recall", 0.904), RetrievalScore("dense", "mrr", 0.5))
    page = render_run(RunReport("", retrieval=measured))
    assert ">gold recall</th>" in page
    assert ">0.904</td>" in page
    assert ">0.500</td>" in page
    assert page.count(">–</td>") == 2


def test_commands_in_next_steps_are_code() -> None:
    page = render_run(RunReport("", next_steps=("Run `a <b>` now", "unpaired ` tick")))
    assert "<li>Run <code>a &lt;b&gt;</code> now</li>" in page
    assert "<li>unpaired ` tick</li>" in page


def test_a_report_of_an_earlier_evolution_keeps_its_rounds(tmp_path: Path) -> None:
    entry = {
        **{"round": 2, "validation_recall": 0.4, "accepted": 30, "trained_on": 70, "producer": "round_1#1f"},
        **{"tasks": 20, "samples": 60, "accepted_share": 0.5, "reasons": {"no answer": 30}, "steps": 9},
        **{"tokens": 100, "seconds": 2.5},
    }
    cell = {
        **{"recall": 0.5, "em": 0.4, "f1": 0.45, "n": 9, "ci95": [0.4, 0.6], "em_ci95": [0.3, 0.5]},
        **{"gold_recall": None, "searches": 1.0, "sampled_tokens": 9.0, "format_errors": 0.0},
    }
    name = "round 2 over round 1, held-out recall"
    old = {
        **{
            "title": "evolve, seed 0",
            "seed": 0,
            "settings": {},
            "stop_reason": "max_rounds",
            "best_round": 2,
        },
        **{"rounds": [entry], "evals": {"round_2": {"held_out": cell}}},
        "comparisons": [{"name": name, "mean": 0.1, "low": 0.0, "high": 0.2, "n": 9}],
    }
    (tmp_path / "report.json").write_text(json.dumps(old))
    report = read_report(tmp_path)
    assert report.rounds == (Round(2, "round_1#1f", 20, 60, 30, 70, 0.4, 9, 100, 2.5),)
    assert report.score("round_2", "test") is not None
    assert report.differences == (Difference("round_2", "round_1", "test", Interval(0.1, 0.0, 0.2), 9),)
    assert (report.best_round, report.stop_reason) == (2, "max_rounds")


def test_a_report_of_an_earlier_pretraining_keeps_what_models_said(tmp_path: Path) -> None:
    cell = {
        **{"recall": 0.5, "em": 0.4, "f1": 0.45, "n": 9, "ci95": [0.4, 0.6], "em_ci95": [0.3, 0.5]},
        **{"gold_recall": None, "searches": 1.0, "sampled_tokens": 9.0, "format_errors": 0.0},
        **{"answered": 0.75, "said_recall": 0.6, "said_ci95": [0.5, 0.7]},
    }
    gain = {"mean": 0.1, "low": 0.0, "high": 0.2}
    compared = {
        **{"name": "ramp_sft over agent-pe, recall on docks", "after": "ramp_sft", "before": "agent-pe"},
        **{"dataset": "docks", **gain, "said": gain, "n": 9},
    }
    old = {
        **{
            "name": "laptop",
            "title": "laptop, seed 0",
            "seed": 0,
            "command": "masksearch pretrain",
            "cores": 2,
        },
        **{"base_model": "tiny", "tasks": {"ramp": 4}, "comparisons": [compared]},
        "evals": {"ramp_sft": {"docks": cell}},
    }
    (tmp_path / "report.json").write_text(json.dumps(old))
    report = read_report(tmp_path)
    found = report.score("ramp_sft", "docks")
    assert found is not None
    assert (found.answered, found.said) == (0.75, Interval(0.6, 0.5, 0.7))
    interval = Interval(**gain)
    assert report.differences == (Difference("ramp_sft", "agent-pe", "docks", interval, 9, said=interval),)
    assert (report.name, report.cores, report.tasks) == ("laptop", 2, {"ramp": 4})


def test_a_page_says_what_training_noted_and_what_exams_took() -> None:
    stage = StageCost("ramp_dapo", 90.0, exam_seconds=12.5, notes=("step 8: <b>exam recall</b> is 0.100",))
    curve = Curve("ramp_dapo", "exam recall", ((0, 0.5), (8, 0.1)))
    page = render_run(RunReport("", stages=(stage,), curves=(curve,)))
    assert "<li>RAMP DAPO, step 8: &lt;b&gt;exam recall&lt;/b&gt; is 0.100</li>" in page
    assert "RAMP DAPO was examined while it trained, which took 12.5 s of its time." in page
    quiet = render_run(RunReport("", stages=(StageCost("ramp_dapo", 90.0),), curves=(curve,)))
    assert "What training noted" not in quiet
    assert "was examined" not in quiet
