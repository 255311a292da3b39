"""The evaluation stage: an agent is asked questions, and every answer is scored and kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from masksearch_agent.agent.prompts import PromptSet
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.environment import release_memory
from masksearch_agent.evaluation.answering import Mode
from masksearch_agent.evaluation.asking import ask_file
from masksearch_agent.evaluation.results import QuestionResult, ResultLabel
from masksearch_agent.evaluation.runner import count_failures
from masksearch_agent.evaluation.sources import read_tasks
from masksearch_agent.stages.display import Bar
from masksearch_agent.stages.stage import AgentFolder, Results, Searched, Site, Spent, Stage, TaskFile

__all__ = ("Asked", "Evaluation")


@dataclass(frozen=True)
class Asked:
    """Questions, and where they are to be answered from."""

    questions: TaskFile
    searched: Searched


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation(Stage):
    """Asks one agent the questions of several datasets."""

    kind = "evaluation"
    retries = True

    agent: AgentFolder
    asked: Mapping[str, Asked]
    """By dataset."""
    mode: Mode = "agentic"
    settings: EvaluationSettings
    prompts: PromptSet | None = None
    """What the agent is told; None for its own."""

    @property
    def results(self) -> dict[str, Results]:
        """The results by dataset."""
        return {dataset: Results(f"{dataset}.jsonl", self) for dataset in self.asked}

    def work(self, folder: Path, site: Site, bar: Bar) -> Spent:
        """Ask what was not asked yet."""
        files = {name: site.where(asked.questions) for name, asked in self.asked.items()}
        limit = self.settings.limit
        bar.start(0, sum(sum(1 for _ in islice(read_tasks(file), limit)) for file in files.values()))
        answered: list[QuestionResult] = []
        for name, file in files.items():
            answered += self._ask(name, file, site, bar)
            release_memory()  # Each dataset has a model of its own.
        failures = count_failures(answered)
        return Spent(items=len(answered), failed=sum(failures.values()), failures=failures)

    def _ask(self, name: str, file: Path, site: Site, bar: Bar) -> list[QuestionResult]:
        """Ask one dataset; return its results without the trajectories, which are in the file."""
        search = site.search(self.asked[name].searched)
        label = ResultLabel(name, self.name.rpartition("/")[2] or self.mode)
        with closing(MaskSearchAgent.from_pretrained(site.where(self.agent), search=search)) as agent:
            told = agent.replace(prompts=self.prompts) if self.prompts is not None else agent
            results = ask_file(
                told, file, self.settings, self.mode, site.where(self.results[name]), label,
                on_result=lambda _: bar.step(), retry_failed=site.retry_failed,
            )  # fmt: skip
        return [dataclasses.replace(result, trajectory=None) for result in results]
