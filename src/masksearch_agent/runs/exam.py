"""The exam on held-out documents: what it is made from, who takes it, and what is served by it."""

from __future__ import annotations

from collections.abc import Mapping

from masksearch_agent.stages.choice import Candidate
from masksearch_agent.stages.plan import RecipeStages
from masksearch_agent.stages.stage import AgentFolder, Corpus, Searched

__all__ = ("EXAM", "RIVAL", "START", "DocumentExam")

EXAM = "exam"
"""The dataset that is reported."""
START = "agent-pe"
"""What training starts from: the untrained model as an agent."""
RIVAL = "rag-3shot"
"""What one would use instead of training."""


class DocumentExam:
    """Two exams from documents that no task is made from: one decides what is served, the other one is reported.

    Args:
        make: Makes the stages.
        documents: The corpus.
        searched: All of it: what is held back stays in the index.
    """

    def __init__(self, make: RecipeStages, documents: Corpus, searched: Searched) -> None:
        settings = make.recipe.exam
        self._make = make
        self.parts = make.parts(documents)
        self.rest = self.parts.train
        self.held_out = (self.parts.validation, self.parts.exam)
        reported = make.exam(self.parts.exam, searched, EXAM, settings.questions)
        self.asked = {EXAM: reported}
        self.deciding = make.exam(
            self.parts.validation, searched, "validation", settings.validation_questions
        )
        self.questions = (self.deciding.questions, reported.questions)
        self.candidates: dict[str, Candidate] = {}
        """Who was asked what decides; set by `best`."""

    def best(self, base: AgentFolder, trained: Mapping[str, AgentFolder]) -> AgentFolder:
        """Return the best of the untrained agent and of the stages by the validation exam, of equals the first."""
        asked = {"validation": self.deciding}
        for name, agent in {START: base, **trained}.items():
            taken = self._make.evaluation(name, agent, asked, is_trained=name != START, folder="validation")
            self.candidates[name] = Candidate(agent, taken.results["validation"], taken.prompts)
        return self._make.choice(self.candidates)
