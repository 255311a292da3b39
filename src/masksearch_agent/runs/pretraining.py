"""The whole loop on documents of your own: from a corpus to a search agent that is trained on its masks and compared.

    corpus -> index -> RAMP tasks -> trajectories -> SFT -> DAPO ----> exams -> the best of them
               questions, if any -> trajectories -> SFT -> DAPO --^   ^
    documents that are held back -> questions of the exams -----------'

No question of an exam or of `questions` is trained on. The untrained model takes them too (`evaluation.baselines`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from masksearch_agent.config.recipe import Recipe
from masksearch_agent.evaluation.baselines import BASELINES
from masksearch_agent.reports.records import RunReport
from masksearch_agent.runs.exam import DocumentExam
from masksearch_agent.runs.question_files import QuestionFile, asked_files, check_files
from masksearch_agent.runs.reporting import report_pretraining
from masksearch_agent.runs.training_stages import TrainingStages
from masksearch_agent.stages.display import Display
from masksearch_agent.stages.graph import StageGraph
from masksearch_agent.stages.plan import RecipeStages, save_recipe
from masksearch_agent.stages.stage import Corpus, lineage

__all__ = ("Pretraining",)


class Pretraining:
    """One run.

    Args:
        corpus: Documents to mask and to search.
        questions, train_questions: What to evaluate on beside the exam, and what Stage II trains on.
        directory, command: The run folder, and what started the run, for its report.

    Raises:
        CorpusError, EvaluationError, ConfigError: A file is missing or named twice, or the folder holds another run.
    """

    def __init__(
        self,
        recipe: Recipe,
        corpus: Path,
        questions: Sequence[QuestionFile],
        directory: Path,
        display: Display | None = None,
        command: str = "",
        train_questions: Sequence[Path] = (),
    ) -> None:
        check_files(corpus, questions, train_questions, recipe.exam.documents > 0, directory)
        self.recipe, self.directory, self.command = recipe, directory, command
        make, documents = RecipeStages(recipe), Corpus(str(corpus))
        searched = make.search(make.index(documents))
        self.exam = DocumentExam(make, documents, searched) if recipe.exam.documents else None
        base = make.base(searched.index)
        tasks = make.tasks(self.exam.rest if self.exam else documents, searched)
        held_out = self.exam.held_out if self.exam else ()
        asked_of_stage_two = make.questions(train_questions, held_out=held_out) if train_questions else None
        self.training = TrainingStages(make, base, tasks, searched, asked_of_stage_two, self.exam)
        self.trained = self.training.agents
        self.agent = self.exam.best(base, self.trained) if self.exam else [*self.trained.values()][-1]
        asked = {**(self.exam.asked if self.exam else {}), **asked_files(questions, make, searched)}
        self.evaluations = [
            make.evaluation(name, base, asked, mode, is_trained=False) for name, mode in BASELINES.items()
        ]
        self.evaluations += [make.evaluation(name, agent, asked) for name, agent in self.trained.items()]
        self.graph, self.stages = (
            StageGraph(directory, display, recipe.report_to),
            [*lineage(self.agent), *self.evaluations],
        )
        self.graph.check(self.stages)

    def run(self) -> RunReport:
        """Do every stage that is not done yet; write the report and return it."""
        self.graph.hold()
        save_recipe(self.recipe, self.directory)
        for questions in self.exam.questions if self.exam else ():
            self.graph.make(questions)  # First: documents that give none are found out before training.
        self.graph.make(self.agent)
        for evaluation in self.evaluations:
            self.graph.finish(evaluation)
        return report_pretraining(self)
