"""The stage that decides what a run serves: the agent that did best on questions which are not those of the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from masksearch_agent.agent.prompts import PromptSet
from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.evaluation.results import read_results
from masksearch_agent.evaluation.runner import EvaluationSummary, summarise
from masksearch_agent.stages.display import Bar
from masksearch_agent.stages.export import copy_bundle
from masksearch_agent.stages.stage import AgentFolder, AgentStage, Results, Site

__all__ = ("Candidate", "Choice", "choose")


@dataclass(frozen=True)
class Candidate:
    """An agent that may be served."""

    agent: AgentFolder
    results: Results
    """On the questions that decide."""
    prompts: PromptSet | None = None
    """What it was told then, and is told where it is served; None for its own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice(AgentStage):
    """Serves the best of several agents: copies it, and says in its provenance how all of them did and why it is it."""

    kind = "choice"

    candidates: Mapping[str, Candidate]
    """By name, in the order in which they were made: what training started from is the first."""
    settings: EvaluationSettings

    def work(self, folder: Path, site: Site, bar: Bar) -> None:
        """Choose, and copy."""
        summaries = {
            name: summarise(read_results(site.where(candidate.results)), self.settings)
            for name, candidate in self.candidates.items()
        }
        chosen = choose(summaries)
        said = {
            "chosen": chosen,
            "why": _reason(chosen, summaries),
            "scores": {name: dataclasses.asdict(summary) for name, summary in summaries.items()},
        }
        best = self.candidates[chosen]
        copy_bundle(site.where(best.agent), folder, best.prompts, {"choice": said})


def choose(summaries: Mapping[str, EvaluationSummary]) -> str:
    """Return who has the highest recall, of equals the highest exact match, of equals again who came first."""
    return max(summaries, key=lambda name: (summaries[name].recall, summaries[name].em))


def _reason(chosen: str, summaries: Mapping[str, EvaluationSummary]) -> str:
    start, count = next(iter(summaries)), summaries[chosen].n
    best, first = summaries[chosen].recall, summaries[start].recall
    if chosen == start:
        return f"no stage did better than {start} (recall {first:.3f}) on {count} validation questions"
    return f"the best recall on {count} validation questions: {best:.3f}, where {start} has {first:.3f}"
