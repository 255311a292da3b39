"""The whole loop on documents of your own: from a corpus to a search agent that is trained on its masks and compared.

    corpus -> index -> RAMP tasks -> trajectories -> SFT -> DAPO -> evaluation

None of the questions that are asked in evaluation is trained on. The untrained model is asked them too, over the same
search: with one retrieval in plain text (rag-3shot) and in tags (RAG-PE), and with the whole search graph (Agent-PE).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from masksearch_agent.config.recipe import Recipe
from masksearch_agent.evaluation.baselines import BASELINES
from masksearch_agent.reports.records import RunReport
from masksearch_agent.runs.question_files import QuestionFile, check_files
from masksearch_agent.runs.reporting import report_pretraining
from masksearch_agent.stages.display import Display
from masksearch_agent.stages.evaluation import Asked
from masksearch_agent.stages.graph import StageGraph
from masksearch_agent.stages.plan import RecipeStages, save_recipe
from masksearch_agent.stages.stage import Corpus, TaskFile

__all__ = ("Pretraining",)


class Pretraining:
    """One run.

    Args:
        corpus: Documents to mask and to search.
        questions: What to evaluate on; each has a name of its own.
        directory: The run folder.
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
        check_files(corpus, questions)
        self.recipe, self.directory, self.command = recipe, directory, command
        make, documents = RecipeStages(recipe), Corpus(str(corpus))
        searched = make.search(make.index(documents))
        base = make.base(searched.index)
        self.tasks = make.tasks(documents, searched)
        self.traces = make.trajectories(self.tasks, searched)
        self.student = make.sft(base, self.traces, recipe.ramp_sft, "ramp_sft")
        self.agent = make.dapo(self.student, self.tasks, searched, recipe.ramp_dapo, "ramp_dapo")

        def ask(file: QuestionFile) -> Asked:
            own = make.index(Corpus(str(file.path)), f"index_{file.name}") if file.has_passages else None
            return Asked(TaskFile(str(file.path)), make.search(own) if own is not None else searched)

        asked = {file.name: ask(file) for file in questions}
        self.exams = [
            make.evaluation(name, base, asked, mode, is_trained=False) for name, mode in BASELINES.items()
        ]
        rows = {"ramp_sft": self.student, "ramp_dapo": self.agent}
        self.exams += [make.evaluation(name, agent, asked) for name, agent in rows.items()]
        self.graph = StageGraph(directory, display)
        self.graph.check(self.exams)

    def run(self) -> RunReport:
        """Do every stage that is not done yet; write the report and return it."""
        save_recipe(self.recipe, self.directory)
        self.graph.make(self.agent)
        for exam in self.exams:
            self.graph.finish(exam)
        return report_pretraining(self)
