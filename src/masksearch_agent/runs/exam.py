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
        self.asked = make.exam(self.parts.exam, searched, EXAM, settings.questions)
        self.deciding = make.exam(
            self.parts.validation, searched, "validation", settings.validation_questions
        )
        self.questions = (self.deciding.questions, self.asked.questions)
        self.candidates: dict[str, Candidate] = {}
        """Who was asked what decides; set by `best`."""

    def best(self, agents: Mapping[str, AgentFolder]) -> AgentFolder:
        """Return the best of several agents by the validation exam, of equals the first."""
        for name, agent in agents.items():
            asked = self._make.evaluation(name, agent, {"validation": self.deciding}, folder="validation")
            self.candidates[name] = Candidate(agent, asked.results["validation"])
        return self._make.choice(self.candidates)
