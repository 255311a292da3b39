from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from masksearch_agent.config.recipe import Recipe
from masksearch_agent.errors import ConfigError, CorpusError, EvaluationError
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.pipeline import pretraining
from masksearch_agent.pipeline.pretraining import Pretraining, QuestionFile
from masksearch_agent.pipeline.training import StageResult
from masksearch_agent.records import Passage, SearchTask, Trajectory
from masksearch_agent.traces.store import TraceStore


class Notes:
    """What a run does, in place of masking, training and asking; fails once where it is told to."""

    model_version = "fake"

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.asked: list[tuple[str, str, str, str]] = []
        self.killed_at = ""
        for name in (
            "build_tasks",
            "generate_trajectories",
            "make_base_bundle",
            "run_sft",
            "run_dapo",
            "evaluate",
            "write_page",
        ):
            monkeypatch.setattr(pretraining, name, getattr(self, name))
        monkeypatch.setattr(pretraining, "MaskSearchAgent", self)
        monkeypatch.setattr(
            pretraining, "build_pretraining_report", lambda recipe, run, files, command: {"files": files}
        )
        monkeypatch.setattr(pretraining, "write_pretraining_report", lambda report, directory: None)

    def step(self, name: str) -> None:
        if self.killed_at == name:
            self.killed_at = ""
            raise KeyboardInterrupt
        self.done.append(name)

    def build_tasks(self, corpus: Path, search: Any, recipe: Any, out: Path, bar: Any) -> None:
        self.step("ramp")
        write_jsonl(out, [SearchTask("t", "ramp", "It is [mask].", (("so",),), source_passage_id="p")])

    def generate_trajectories(
        self, files: list[Path], search: Any, recipe: Any, out: Path, stage: str, bar: Any
    ) -> None:
        with TraceStore(out) as store:
            store.add(Trajectory("1", "t", (), "so", "answered", producer="hindsight", accepted=True), stage)

    def make_base_bundle(self, recipe: Recipe, directory: Path, index: str) -> None:
        self.step("base")

    def run_sft(self, source: Path, rows: list[Any], settings: Any, target: Path, *rest: Any) -> StageResult:
        self.step(f"{source.name} -> {target.name}, {len(rows)} row, seed {settings.seed}")
        return StageResult(2, 20)

    def run_dapo(
        self,
        source: Path,
        tasks: list[Any],
        search: Any,
        recipe: Any,
        settings: Any,
        target: Path,
        *rest: Any,
    ) -> StageResult:
        self.step(f"{source.name} -> {target.name}, {len(tasks)} task, seed {settings.seed}")
        return StageResult(3, 30)

    def from_pretrained(self, bundle: Path, search: Any) -> Notes:
        self.bundle, self.search = bundle.name, search
        return self

    def close(self) -> None:
        pass

    def evaluate(
        self, agent: Any, tasks: list[SearchTask], settings: Any, mode: str, path: Path, on_result: Any
    ) -> None:
        self.step(path.stem)
        [[found]] = self.search.search([tasks[0].question], 1)
        self.asked.append((path.stem, self.bundle, mode, found.passage.title))

    def write_page(self, runs: list[Any], *rest: Any) -> None:
        assert len(runs) == 8


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
    report = make_run(corpus).run()
    assert notes.done[:4] == [
        "base",
        "ramp",
        "base -> ramp_sft, 1 row, seed 4",
        "ramp_sft -> ramp_dapo, 1 task, seed 4",
    ]
    assert notes.asked == [
        ("rag-pe-hotpot", "base", "rag", "Own"),
        ("rag-pe-plain", "base", "rag", "Corpus"),
        ("agent-pe-hotpot", "base", "agentic", "Own"),
        ("agent-pe-plain", "base", "agentic", "Corpus"),
        ("ramp_sft-hotpot", "ramp_sft", "agentic", "Own"),
        ("ramp_sft-plain", "ramp_sft", "agentic", "Corpus"),
        ("ramp_dapo-hotpot", "ramp_dapo", "agentic", "Own"),
        ("ramp_dapo-plain", "ramp_dapo", "agentic", "Corpus"),
    ]
    assert list(report["files"]) == ["rag-pe", "agent-pe", "ramp_sft", "ramp_dapo"]


@pytest.mark.parametrize("killed_at", ["ramp", "base -> ramp_sft, 1 row, seed 4", "agent-pe-plain"])
def test_a_killed_run_goes_on_at_its_stage(notes: Notes, corpus: Path, killed_at: str) -> None:
    notes.killed_at = killed_at
    with pytest.raises(KeyboardInterrupt):
        make_run(corpus).run()
    make_run(corpus).run()
    assert notes.done.count("base") == notes.done.count("ramp") == 1
    assert killed_at in notes.done
    before = list(notes.done)
    make_run(corpus).run()
    assert notes.done == before


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
