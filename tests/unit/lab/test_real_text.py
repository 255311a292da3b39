"""The comparison on real text: which agent learns from what, and what its table says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fakes.evaluation_results import result
from fakes.stages import NotedWork

from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.errors import ConfigError, CorpusError
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.lab.real_text import RealText
from masksearch_agent.lab.real_text_report import compare_claims, compare_rows
from masksearch_agent.reports.records import ExamReport, RunReport, write_json
from masksearch_agent.stages.base import BaseAgent
from masksearch_agent.stages.choice import Choice
from masksearch_agent.stages.dapo import DAPO
from masksearch_agent.stages.draw import Draw
from masksearch_agent.stages.evaluation import Evaluation
from masksearch_agent.stages.index import Index
from masksearch_agent.stages.parts import Parts
from masksearch_agent.stages.questions import Questions
from masksearch_agent.stages.sft import SFT
from masksearch_agent.stages.stage import Site, Spent
from masksearch_agent.stages.tasks import Masking
from masksearch_agent.stages.trajectories import Lessons

FILES = (
    *("hotpotqa/train_600.json", "hotpotqa/dev_200.json", "2wikimultihopqa/train_500.json"),
    *("2wikimultihopqa/dev_80.json", "musique/train_50.jsonl", "musique/dev_100.jsonl"),
    *("naturalquestions/train.jsonl.gz", "naturalquestions/dev_300.jsonl"),
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for file in FILES:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("[]")
    return tmp_path


def ask(stage: Evaluation, folder: Path, site: Site) -> None:
    recall = {"rag-3shot": 0.0, "A": 1.0}.get(folder.name, 0.5)
    for dataset, file in stage.results.items():
        write_jsonl(site.where(file), [result(dataset, recall), result(f"{dataset} too", recall)])


def noted(monkeypatch: pytest.MonkeyPatch) -> NotedWork:
    kinds = (BaseAgent, Choice, DAPO, Draw, Evaluation, Index, Lessons, Masking, Parts, Questions, SFT)
    return NotedWork(
        monkeypatch, kinds, evaluation=ask, sft=lambda *_: Spent(2, 20), dapo=lambda *_: Spent(3, 30)
    )


def make_run(data: Path, **settings: Any) -> RealText:
    recipe = Recipe(
        ramp_sft={"max_steps": 30},
        qa_sft={"max_steps": 50, "ramp_share": 0.3},
        qa_dapo={"ramp_share": 0.2},
        **settings,
    )
    return RealText(recipe, data, data / "run")


def test_each_agent_learns_from_what_its_row_says(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    work = noted(monkeypatch)
    make_run(data).run()
    stages = {stage.name: stage for stage in work.done}
    learned = {
        name: (
            stages[name].agent.stage.name,
            [traces.stage.name for traces in stages[name].traces],
            [traces.stage.name for traces in stages[name].ramp],
            stages[name].settings.max_steps,
        )
        for name in ("A", "B", "C", "C-plus", "E")
    }
    assert learned == {
        "A": ("base", ["trajectories"], [], 30),
        "B": ("A", ["lessons"], ["trajectories"], 50),
        "C": ("base", ["lessons"], [], 50),
        "C-plus": ("base", ["lessons"], [], 80),
        "E": ("A", ["lessons_hotpotqa"], ["trajectories"], 50),
    }
    assert stages["D"].agent.stage.name == "B"
    assert [Path(file.path).parent.name for file in stages["questions_hotpotqa"].files] == ["hotpotqa"]
    trained_on = [file.path for file in stages["questions"].files]
    assert not [path for path in trained_on if "dev" in path]


def test_the_table_compares_each_agent_with_three_shot_rag(
    monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    noted(monkeypatch)
    make_run(data).run()
    told = json.loads((data / "run" / "real_text.json").read_text())
    [pooled] = [row for row in told["rows"] if (row["agent"], row["set"]) == ("A", "pooled")]
    assert (pooled["n"], pooled["recall"], pooled["rag_recall"], pooled["diff_ci95"]) == (
        6,
        1.0,
        0.0,
        [1.0, 1.0],
    )
    sets = {agent: {row["set"] for row in told["rows"] if row["agent"] == agent} for agent in "ABE"}
    own = {"pooled", "hotpotqa", "musique", "2wikimultihopqa"}
    assert sets == {"A": {*own, "exam"}, "B": {*own, "exam", "open_corpus"}, "E": {*own, "naturalquestions"}}
    page = (data / "run" / "real_text.md").read_text()
    assert (
        "| A: masks and questions made by rule, no human question | 1.000 / 1.000 (+1.000 to +1.000) |"
        in page
    )


def test_runs_on_documents_of_another_kind_are_row_h(monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    noted(monkeypatch)
    manual = data / "manual"
    exam = ExamReport((), (), (), served="ramp_sft", start="agent-pe", rival="rag-3shot")
    write_json(RunReport("manual", exam=exam), manual / "report.json")
    for agent, recall in (("rag-3shot", 0.0), ("ramp_sft", 1.0), ("agent-pe", 0.5)):
        write_jsonl(manual / "evals" / agent / "exam.jsonl", [result("exam", recall)])
    recipe = Recipe(qa_dapo={})
    RealText(recipe, data, data / "run", ["A"], documents=[manual]).run()
    told = json.loads((data / "run" / "real_text.json").read_text())
    [h] = [row for row in told["rows"] if row["agent"] == "H"]
    assert (h["set"], h["recall"], h["rag_recall"]) == ("documents_1", 1.0, 0.0)
    assert "`documents_1` is manual." in (data / "run" / "real_text.md").read_text()


def test_recall_over_rag_is_a_ratio_of_means() -> None:
    results = {
        "rag-3shot": {"hotpotqa": [result("a", 0.5), result("b", 0.0)]},
        "B": {"hotpotqa": [result("a", 0.5), result("b", 0.5)]},
    }
    [_, row] = compare_rows(results, EvaluationSettings())
    assert (row["agent"], row["set"], row["recall_over_rag"]) == ("B", "hotpotqa", 2.0)
    assert row["diff_ci95"][0] <= 0.25 <= row["diff_ci95"][1]


def test_agents_that_differ_in_one_thing_are_compared_with_each_other() -> None:
    results = {
        "rag-3shot": {"hotpotqa": [result("a", 0.0), result("b", 0.0)]},
        "C": {"hotpotqa": [result("a", 0.5), result("b", 0.5)]},
        "B": {"hotpotqa": [result("a", 0.25), result("b", 0.25)], "exam": [result("c", 1.0)]},
    }
    [claim] = compare_claims(results, EvaluationSettings())
    assert (claim["agent"], claim["over"], claim["set"], claim["n"]) == ("B", "C", "hotpotqa", 2)
    assert (claim["diff"], claim["diff_ci95"]) == (-0.25, [-0.25, -0.25])


def test_missing_samples_are_named(data: Path) -> None:
    (data / "musique/dev_100.jsonl").unlink()
    with pytest.raises(CorpusError, match=r"lack .*musique/dev_100.jsonl"):
        make_run(data)


def test_a_row_that_the_recipe_cannot_make_is_refused(data: Path) -> None:
    steps = {"ramp_sft": {"max_steps": 3}, "qa_sft": {"max_steps": 3}}
    with pytest.raises(ConfigError, match="the recipe has no qa_dapo"):
        RealText(Recipe(**steps), data, data / "run", ["B", "D"])
    with pytest.raises(ConfigError, match=r"C\+ takes the steps of both stages"):
        RealText(Recipe(), data, data / "run", ["C+"])
