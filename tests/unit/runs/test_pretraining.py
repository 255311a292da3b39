from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.stages import NotedWork

from masksearch_agent.config.recipe import Recipe
from masksearch_agent.errors import ConfigError, CorpusError, EvaluationError
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.records import Passage, SearchTask
from masksearch_agent.runs import pretraining
from masksearch_agent.runs.pretraining import Pretraining
from masksearch_agent.runs.question_files import QuestionFile
from masksearch_agent.stages.base import BaseAgent
from masksearch_agent.stages.dapo import DAPO
from masksearch_agent.stages.evaluation import Evaluation
from masksearch_agent.stages.sft import SFT
from masksearch_agent.stages.stage import Site, Spent
from masksearch_agent.stages.tasks import Masking
from masksearch_agent.stages.trajectories import Lessons

STAGES = ["index", "base", "tasks", "trajectories", "ramp_sft", "ramp_dapo"]
EXAMS = ["evals/rag-3shot", "evals/rag-pe", "evals/agent-pe", "evals/ramp_sft", "evals/ramp_dapo"]


class Notes(NotedWork):
    """What a run does, in place of masking, training and asking; indexes are built."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kinds = (BaseAgent, Masking, Lessons, SFT, DAPO, Evaluation)
        super().__init__(
            monkeypatch,
            kinds,
            evaluation=self.ask,
            sft=lambda stage, *_: Spent(2, 20),
            dapo=lambda stage, *_: Spent(3, 30),
        )
        self.asked: list[tuple[str, str, str, str]] = []
        monkeypatch.setattr(pretraining, "report_pretraining", lambda run: run)

    def ask(self, stage: Evaluation, folder: Path, site: Site) -> None:
        for dataset, asked in stage.asked.items():
            [[found]] = site.search(asked.searched).search(["Who built the quay?"], 1)
            bundle = site.where(stage.agent).name
            self.asked.append((folder.name, dataset, f"{bundle} {stage.mode}", found.passage.title))


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Notes:
    pytest.importorskip("bm25s")
    return Notes(monkeypatch)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_jsonl(tmp_path / "corpus.jsonl", [Passage("p", "Corpus", "Ann Bo built the quay.")])
    write_jsonl(tmp_path / "plain.jsonl", [SearchTask("q", "qa", "Who built the quay?", (("Ann Bo",),))])
    (tmp_path / "hotpot.json").write_text(
        '[{"_id": "h", "question": "Who built the quay?", "answer": "Ann Bo", "type": "bridge", "supporting_facts": '
        '[["Own", 0]], "context": [["Own", ["Ann Bo built the quay."]]]}]',
        encoding="utf-8",
    )
    return tmp_path / "corpus.jsonl"


def make_run(corpus: Path, **settings: Any) -> Pretraining:
    folder = corpus.parent
    questions = (
        QuestionFile("hotpot", folder / "hotpot.json", has_passages=True),
        QuestionFile("plain", folder / "plain.jsonl"),
    )
    recipe = Recipe(retrieval={"mode": "bm25"}, seed=4, **settings)
    return Pretraining(recipe, corpus, questions, folder / "run")


def test_every_agent_is_asked_every_question_over_the_same_search(notes: Notes, corpus: Path) -> None:
    make_run(corpus).run()
    assert [name for name in notes.names if not name.startswith("evals/")] == STAGES[1:]
    sft, dapo = notes.of_kind("sft")[0], notes.of_kind("dapo")[0]
    assert (sft.agent.stage.name, dapo.agent.stage.name) == ("base", "ramp_sft")
    assert (sft.settings.seed, dapo.settings.seed) == (4, 4)
    assert notes.asked == [
        ("rag-3shot", "hotpot", "base rag-3shot", "Own"),
        ("rag-3shot", "plain", "base rag-3shot", "Corpus"),
        ("rag-pe", "hotpot", "base rag", "Own"),
        ("rag-pe", "plain", "base rag", "Corpus"),
        ("agent-pe", "hotpot", "base agentic", "Own"),
        ("agent-pe", "plain", "base agentic", "Corpus"),
        ("ramp_sft", "hotpot", "ramp_sft agentic", "Own"),
        ("ramp_sft", "plain", "ramp_sft agentic", "Corpus"),
        ("ramp_dapo", "hotpot", "ramp_dapo agentic", "Own"),
        ("ramp_dapo", "plain", "ramp_dapo agentic", "Corpus"),
    ]


@pytest.mark.parametrize("killed_at", ["tasks", "ramp_sft", "evals/agent-pe"])
def test_a_killed_run_goes_on_at_its_stage(notes: Notes, corpus: Path, killed_at: str) -> None:
    notes.killed_at = killed_at
    with pytest.raises(KeyboardInterrupt):
        make_run(corpus).run()
    make_run(corpus).run()
    assert sorted(notes.names) == sorted([*STAGES[1:], *EXAMS])
    make_run(corpus).run()
    assert len(notes.names) == len(set(notes.names))


def test_a_folder_of_another_run_is_refused(notes: Notes, corpus: Path) -> None:
    make_run(corpus).run()
    with pytest.raises(ConfigError, match="other settings"):
        make_run(corpus, name="another")


def test_missing_data_is_named_before_anything_is_done(corpus: Path) -> None:
    folder = corpus.parent
    with pytest.raises(CorpusError, match=r"no corpus at .*absent"):
        Pretraining(Recipe(), folder / "absent", (), folder / "run")
    with pytest.raises(EvaluationError, match=r"no questions at .*absent"):
        Pretraining(Recipe(), corpus, (QuestionFile("a", folder / "absent.json"),), folder / "run")
    twice = (QuestionFile("a", folder / "plain.jsonl"), QuestionFile("a", folder / "hotpot.json"))
    with pytest.raises(EvaluationError, match="one name"):
        Pretraining(Recipe(), corpus, twice, folder / "run")
    assert not (folder / "run").exists()
