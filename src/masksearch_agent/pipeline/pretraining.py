"""The whole loop on documents of your own: from a corpus to a search agent that is trained on its masks and compared.

    base -> index -> RAMP tasks -> trajectories -> SFT -> DAPO -> evaluation

None of the questions that are asked in evaluation is trained on. The untrained model is asked them too, with one
retrieval (RAG-PE) and with the whole search graph (Agent-PE), over the same search. Every stage reads what earlier
stages wrote into the run folder and nothing else, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.errors import CorpusError, EvaluationError
from masksearch_agent.evaluation.benchmarks import read_tasks
from masksearch_agent.evaluation.report import PAGE_NAME, RunFile, write_page
from masksearch_agent.evaluation.runner import Mode, evaluate
from masksearch_agent.pipeline.data import build_tasks, generate_trajectories, read_task_files
from masksearch_agent.pipeline.display import Bar, Display
from masksearch_agent.pipeline.pretraining_report import build_pretraining_report, write_pretraining_report
from masksearch_agent.pipeline.stages import Run
from masksearch_agent.pipeline.training import make_base_bundle, run_dapo, run_sft
from masksearch_agent.retrieval.index import build_index, open_index
from masksearch_agent.retrieval.search import Search
from masksearch_agent.traces.store import TraceStore

__all__ = ("AGENTS", "Pretraining", "QuestionFile")

AGENTS: tuple[tuple[str, str, Mode], ...] = (
    ("rag-pe", "base", "rag"),
    ("agent-pe", "base", "agentic"),
    ("ramp_sft", "ramp_sft", "agentic"),
    ("ramp_dapo", "ramp_dapo", "agentic"),
)
"""The rows of the result table: name, bundle folder, way to answer."""


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """Questions to evaluate on."""

    name: str
    path: Path
    has_passages: bool = False
    """Whether the passages that the file ships are searched; otherwise the corpus is."""


class Pretraining:
    """One run.

    Args:
        recipe: What to do.
        corpus: Documents to mask and to search.
        questions: What to evaluate on; each has a name of its own.
        directory: The run folder.
        display: Progress.
        command: What started the run, for its report.

    Raises:
        CorpusError: There is no corpus.
        EvaluationError: There is no such question file, or there are two of one name.
        ConfigError: The folder belongs to a run with other settings or files.
    """

    def __init__(
        self,
        recipe: Recipe,
        corpus: Path,
        questions: Sequence[QuestionFile],
        directory: Path,
        display: Display | None = None,
        command: str = "",
    ) -> None:
        if not corpus.exists():
            raise CorpusError(f"there is no corpus at {corpus}; pass a file or folder of documents")
        for file in questions:
            if not file.path.is_file():
                raise EvaluationError(f"there are no questions at {file.path}; pass NAME=FILE of a benchmark")
        if len({file.name for file in questions}) < len(questions):
            raise EvaluationError("two question files have one name; give each its own, as NAME=FILE")
        self.recipe = recipe
        self.corpus = corpus
        self.questions = tuple(questions)
        self.directory = directory
        self.command = command
        fingerprint = "\n".join([recipe.model_dump_json(), str(corpus), *map(str, questions)])
        self.run_state = Run(directory, fingerprint, display)

    def run(self) -> dict[str, Any]:
        """Do every stage that is not done yet and write the report.

        Returns:
            The report, as written to `report.json`.
        """
        recipe_text = yaml.safe_dump(self.recipe.model_dump(mode="json"), sort_keys=False)
        (self.directory / "recipe.yaml").write_text(recipe_text, encoding="utf-8")
        self.run_state.show("base", "base model", self._take_base)
        self.run_state.show("index", "indexing passages", self._build_indexes)
        self.run_state.show("ramp", "masking passages", self._build_tasks)
        self.run_state.show("generate", "generating trajectories", self._generate)
        self.run_state.show("ramp_sft", "SFT on masks", self._sft)
        self.run_state.show("ramp_dapo", "DAPO on masks", self._dapo)
        for agent, bundle, mode in AGENTS:
            work = self._evaluation_of(agent, bundle, mode)
            self.run_state.show(f"evaluate_{agent}", f"evaluating {agent}", work)
        report = build_pretraining_report(self.recipe, self.run_state, self._result_files(), self.command)
        write_pretraining_report(report, self.directory)
        self._write_questions()
        return report

    # --- data --------------------------------------------------------------------------------------------

    def _build_indexes(self, bar: Bar) -> None:
        own = [(file.path, self._index_of(file)) for file in self.questions if file.has_passages]
        for corpus, folder in [(self.corpus, self._corpus_index), *own]:
            build_index(read_passages(corpus, self.recipe.corpus), folder, self.recipe.retrieval)

    def _build_tasks(self, bar: Bar) -> None:
        search = self._open(self._corpus_index)
        build_tasks(self.corpus, search, self.recipe, self._tasks, bar=bar)

    def _generate(self, bar: Bar) -> None:
        search = self._open(self._corpus_index)
        generate_trajectories([self._tasks], search, self.recipe, self._traces, "ramp", bar=bar)

    # --- training ----------------------------------------------------------------------------------------

    def _take_base(self, bar: Bar) -> None:
        make_base_bundle(self.recipe, self._path("base"), index="../index")

    def _sft(self, bar: Bar) -> tuple[int, int]:
        with TraceStore(self._traces) as store:
            accepted = list(store.trajectories("ramp", accepted=True))
        settings = self.recipe.ramp_sft.model_copy(update={"seed": self.recipe.seed})
        result = run_sft(
            self._path("base"),
            accepted,
            settings,
            self._path("ramp_sft"),
            "ramp_sft",
            bar.training_listener(),
        )
        return result.steps, result.tokens

    def _dapo(self, bar: Bar) -> tuple[int, int]:
        settings = self.recipe.ramp_dapo.model_copy(update={"seed": self.recipe.seed})
        result = run_dapo(
            self._path("ramp_sft"),
            read_task_files([self._tasks]),
            self._open(self._corpus_index),
            self.recipe,
            settings,
            self._path("ramp_dapo"),
            "ramp_dapo",
            bar.training_listener(),
        )
        return result.steps, result.tokens

    # --- evaluation --------------------------------------------------------------------------------------

    def _evaluation_of(self, agent: str, bundle: str, mode: Mode) -> Callable[[Bar], None]:
        def work(bar: Bar) -> None:
            sets = {file: list(read_tasks(file.path)) for file in self.questions}
            bar.start(0, sum(map(len, sets.values())))
            for file, tasks in sets.items():
                search = self._open(self._index_of(file))
                results = self._results(agent, file)
                with closing(MaskSearchAgent.from_pretrained(self._path(bundle), search=search)) as opened:
                    evaluate(opened, tasks, self.recipe.evaluation, mode, results, lambda _: bar.step())

        return work

    def _result_files(self) -> dict[str, dict[str, tuple[Path, Path]]]:
        """Return the questions and the results of each agent on each file."""
        return {
            agent: {file.name: (file.path, self._results(agent, file)) for file in self.questions}
            for agent, _, _ in AGENTS
        }

    def _write_questions(self) -> None:
        runs = [
            RunFile(self._results(agent, file), file.name, agent)
            for file in self.questions
            for agent, _, _ in reversed(AGENTS)
        ]
        title = f"{self.recipe.name}, seed {self.recipe.seed}: every question"
        references = {file.name: "agent-pe" for file in self.questions}
        write_page(runs, references, title, self._path("evals", PAGE_NAME), self.recipe.evaluation)

    # --- helpers -----------------------------------------------------------------------------------------

    def _open(self, index: Path) -> Search:
        return Search(open_index(index, self.recipe.retrieval.chosen_mode))

    def _index_of(self, file: QuestionFile) -> Path:
        return self._path(f"index_{file.name}") if file.has_passages else self._corpus_index

    def _results(self, agent: str, file: QuestionFile) -> Path:
        return self._path("evals", f"{agent}-{file.name}.jsonl")

    @property
    def _corpus_index(self) -> Path:
        return self._path("index")

    @property
    def _tasks(self) -> Path:
        return self._path("ramp.jsonl")

    @property
    def _traces(self) -> Path:
        return self._path("traces.sqlite")

    def _path(self, *parts: str) -> Path:
        return self.directory.joinpath(*parts)
