from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fakes.evaluation_results import result
from fakes.stages import NotedWork

from masksearch_agent.config.recipe import Recipe
from masksearch_agent.errors import ConfigError, CorpusError, EvaluationError, MissingExtraError, ModelError
from masksearch_agent.evaluation.results import read_results
from masksearch_agent.evaluation.runner import summarise
from masksearch_agent.jsonl import read_jsonl, write_jsonl
from masksearch_agent.records import Passage, SearchTask
from masksearch_agent.runs import pretraining
from masksearch_agent.runs.pretraining import Pretraining
from masksearch_agent.runs.question_files import QuestionFile
from masksearch_agent.stages.base import BaseAgent
from masksearch_agent.stages.choice import Choice, choose
from masksearch_agent.stages.dapo import DAPO
from masksearch_agent.stages.draw import Draw
from masksearch_agent.stages.evaluation import Evaluation
from masksearch_agent.stages.sft import SFT
from masksearch_agent.stages.stage import Site, Spent
from masksearch_agent.stages.tasks import Masking, corpus_passages
from masksearch_agent.stages.trajectories import Lessons, OwnAttempts

STAGES = [
    *("parts", "index", "validation/tasks", "validation/questions", "exam/tasks", "exam/questions", "base"),
    *("validation/agent-pe", "tasks", "trajectories", "ramp_sft", "validation/ramp_sft"),
    *("ramp_dapo", "validation/ramp_dapo", "agent"),
]
AGENTS = ("agent-pe", "ramp_sft", "ramp_dapo")
EXAMS = [f"evals/{name}" for name in ("rag-3shot", "rag-pe", *AGENTS)]
NOTED = [name for name in (*STAGES, *EXAMS) if name not in ("parts", "index")]
RECALLS = {"agent-pe": 0.2, "ramp_sft": 0.6, "ramp_dapo": 0.4}


class Notes(NotedWork):
    """What a run does, in place of masking, training and asking; indexes are built."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kinds = (BaseAgent, Masking, Draw, Lessons, OwnAttempts, SFT, DAPO, Evaluation, Choice)
        super().__init__(
            monkeypatch,
            kinds,
            evaluation=self.ask,
            choice=self.choose,
            tasks=lambda stage, folder, site: self.masked.update(
                {stage.name: [p.id for p in corpus_passages(site.where(stage.corpus))]}
            ),
            sft=lambda *given: self.train(*given, Spent(2, 20)),
            dapo=lambda *given: self.train(*given, Spent(3, 30)),
        )
        self.asked: list[tuple[str, str, str, str]] = []
        self.masked: dict[str, list[str]] = {}
        """Passages that tasks were made from, by stage."""
        self.logged_to: dict[str, tuple[str, ...]] = {}
        """By the stage that trains."""
        self.chosen = ""
        self.recalls = RECALLS
        monkeypatch.setattr(pretraining, "report_pretraining", lambda run: run)

    def train(self, stage: SFT | DAPO, folder: Path, site: Site, spent: Spent) -> Spent:
        self.logged_to[stage.name] = site.report_to
        return spent

    def ask(self, stage: Evaluation, folder: Path, site: Site) -> None:
        for dataset, asked in stage.asked.items():
            if dataset == "validation":
                results = [result("Quay", self.recalls[folder.name])]
                write_jsonl(site.where(stage.results[dataset]), results)
            [[found]] = site.search(asked.searched).search(["Who built the quay?"], 1)
            bundle = site.where(stage.agent).name
            self.asked.append((folder.name, dataset, f"{bundle} {stage.mode}", found.passage.title))

    def choose(self, stage: Choice, folder: Path, site: Site) -> None:
        read = {name: read_results(site.where(found.results)) for name, found in stage.candidates.items()}
        self.chosen = choose({name: summarise(results) for name, results in read.items()})


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Notes:
    pytest.importorskip("tantivy")
    return Notes(monkeypatch)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    others = [Passage(f"p{number}", f"Weir {number}", "Cy Do saw it.") for number in range(59)]
    write_jsonl(tmp_path / "corpus.jsonl", [Passage("p", "Corpus", "Ann Bo built the quay."), *others])
    write_jsonl(tmp_path / "plain.jsonl", [SearchTask("q", "qa", "Who built the quay?", (("Ann Bo",),))])
    (tmp_path / "hotpot.json").write_text(
        '[{"_id": "h", "question": "Who built the quay?", "answer": "Ann Bo", "type": "bridge", "supporting_facts": '
        '[["Own", 0]], "context": [["Own", ["Ann Bo built the quay."]]]}]',
        encoding="utf-8",
    )
    return tmp_path / "corpus.jsonl"


def make_run(corpus: Path, train_questions: Sequence[Path] = (), **settings: Any) -> Pretraining:
    folder = corpus.parent
    questions = (
        QuestionFile("hotpot", folder / "hotpot.json", has_passages=True),
        QuestionFile("plain", folder / "plain.jsonl"),
    )
    recipe = Recipe(retrieval={"mode": "bm25"}, seed=4, **settings)
    return Pretraining(recipe, corpus, questions, folder / "run", train_questions=train_questions)


def test_every_agent_is_asked_every_question_over_the_same_search(notes: Notes, corpus: Path) -> None:
    make_run(corpus).run()
    assert notes.names == NOTED
    sft, dapo = notes.of_kind("sft")[0], notes.of_kind("dapo")[0]
    assert (sft.agent.stage.name, dapo.agent.stage.name) == ("base", "ramp_sft")
    assert (sft.settings.seed, dapo.settings.seed) == (4, 4)
    bundles = {"rag-3shot": "base rag-3shot", "rag-pe": "base rag", "agent-pe": "base agentic"}
    bundles |= {name: f"{name} agentic" for name in ("ramp_sft", "ramp_dapo")}
    titles = {"exam": "Corpus", "hotpot": "Own", "plain": "Corpus"}
    expected = [(name, "validation", bundles[name], "Corpus") for name in AGENTS]
    expected += [
        (name, dataset, bundles[name], title) for name in bundles for dataset, title in titles.items()
    ]
    assert notes.asked == expected


def test_no_task_is_made_from_a_document_of_an_exam(notes: Notes, corpus: Path) -> None:
    make_run(corpus).run()
    assert {name: len(found) for name, found in notes.masked.items()} == {
        "validation/tasks": 2,
        "exam/tasks": 4,
        "tasks": 54,
    }
    assert len({passage for found in notes.masked.values() for passage in found}) == 60
    exam, train = notes.of_kind("tasks")[1:]
    assert (exam.split, train.split) == ("test", "train")
    assert (exam.settings.cloze_questions, train.settings.cloze_questions) == (0.5, 0.0)


@pytest.mark.parametrize(
    ("recalls", "chosen"), [({}, "ramp_sft"), ({"ramp_sft": 0.1, "ramp_dapo": 0.1}, "agent-pe")]
)
def test_what_did_best_on_the_validation_questions_is_chosen(
    notes: Notes, corpus: Path, recalls: dict[str, float], chosen: str
) -> None:
    notes.recalls = RECALLS | recalls
    make_run(corpus).run()
    assert notes.chosen == chosen


def test_without_an_exam_everything_is_masked_and_the_last_stage_served(notes: Notes, corpus: Path) -> None:
    run = make_run(corpus, exam={"documents": 0})
    run.run()
    assert notes.names == ["base", "tasks", "trajectories", "ramp_sft", "ramp_dapo", *EXAMS]
    assert len(notes.masked["tasks"]) == 60
    assert run.graph.where(run.agent).name == "ramp_dapo"


@pytest.mark.parametrize(
    "killed_at", ["exam/tasks", "ramp_sft", "validation/ramp_dapo", "agent", "evals/agent-pe"]
)
def test_a_killed_run_goes_on_at_its_stage(notes: Notes, corpus: Path, killed_at: str) -> None:
    notes.killed_at = killed_at
    with pytest.raises(KeyboardInterrupt):
        make_run(corpus).run()
    make_run(corpus).run()
    assert sorted(notes.names) == sorted(NOTED)
    make_run(corpus).run()
    assert len(notes.names) == len(set(notes.names))


def test_questions_are_trained_on_after_the_masks_with_a_share_of_them(notes: Notes, corpus: Path) -> None:
    question = {
        "id": "t",
        "question": "who saw it",
        "answers": ["Cy Do"],
        "title": "Weir 1",
        "passage": "Cy Do saw it.",
    }
    bad = {**question, "id": "bad", "answers": [""]}
    write_jsonl(corpus.parent / "train.jsonl", [question, bad, question])
    notes.recalls = RECALLS | {"qa_sft": 0.7, "qa_dapo": 0.8}
    run = make_run(
        corpus,
        [corpus.parent / "train.jsonl"],
        ramp_dapo=None,
        lessons="both",
        qa_sft={"ramp_share": 0.3},
        qa_dapo={"ramp_share": 0.2},
    )
    run.run()
    trained = [name for name in notes.names if not name.startswith(("exam", "validation", "evals"))]
    assert trained == [
        *(
            "base",
            "tasks",
            "trajectories",
            "ramp_sft",
            "lessons",
            "lessons_attempts",
            "qa_sft",
            "qa_dapo",
            "agent",
        ),
    ]
    read = [
        task.id for task in read_jsonl(run.graph.directory / "questions/tasks.jsonl", SearchTask, ValueError)
    ]
    assert read == ["t"]
    ramp, stage_two = notes.of_kind("sft")
    assert (ramp.label, stage_two.label) == ("ramp_sft", "qa_sft")
    assert [traces.stage.name for traces in stage_two.traces] == ["lessons", "lessons_attempts"]
    assert [traces.stage.name for traces in stage_two.ramp] == ["trajectories"]
    assert stage_two.agent.stage.name == "ramp_sft"
    [dapo] = notes.of_kind("dapo")
    assert (dapo.agent.stage.name, dapo.tasks.stage.name) == ("qa_sft", "questions")
    assert [tasks.stage.name for tasks in dapo.ramp] == ["tasks"]
    assert notes.chosen == "qa_dapo"


def test_what_is_evaluated_on_is_not_trained_on(corpus: Path) -> None:
    with pytest.raises(EvaluationError, match="is to be trained on and to be evaluated on"):
        make_run(corpus, [corpus.parent / "plain.jsonl"])
    with pytest.raises(EvaluationError, match="no questions to train on at"):
        make_run(corpus, [corpus.parent / "absent.jsonl"])


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
    with pytest.raises(EvaluationError, match="'exam' is what the exam"):
        Pretraining(Recipe(), corpus, (QuestionFile("exam", folder / "plain.jsonl"),), folder / "run")
    with pytest.raises(ConfigError, match="nothing to evaluate on"):
        Pretraining(Recipe(exam={"documents": 0}), corpus, (), folder / "run")
    assert not (folder / "run").exists()


def test_a_base_model_that_is_not_there_is_told_before_anything_is_done(corpus: Path, tmp_path: Path) -> None:
    recipe = Recipe(base_model="runs/models/nowhere", retrieval={"mode": "bm25"})
    with pytest.raises(ModelError, match=r"no checkpoint folder at runs/models/nowhere; .*prepare_model\.py"):
        Pretraining(recipe, corpus, (), tmp_path / "run")


def test_where_training_is_logged_to_makes_no_stage_anew(notes: Notes, corpus: Path) -> None:
    notes.killed_at = "ramp_dapo"
    with pytest.raises(KeyboardInterrupt):
        make_run(corpus).run()
    make_run(corpus, report_to="tensorboard").run()
    assert notes.names == NOTED
    assert notes.logged_to == {"ramp_sft": (), "ramp_dapo": ("tensorboard",)}


def test_a_tracker_that_is_not_installed_is_told_before_anything_is_done(
    notes: Notes, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(MissingExtraError, match=r"masksearch-agent\[trackio\]"):
        make_run(corpus, report_to="trackio")
    assert notes.done == []
    assert not (corpus.parent / "run").exists()
