"""Makes stages, each with its part of one recipe, so that a run's plan says only what follows what."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import yaml

from masksearch_agent.agent.prompts import PromptSet, choose_prompts
from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.config.trainers import DAPOSettings, SFTSettings
from masksearch_agent.errors import ConfigError
from masksearch_agent.evaluation.runner import Mode
from masksearch_agent.files import replace_text
from masksearch_agent.stages.base import BaseAgent
from masksearch_agent.stages.dapo import DAPO, RolloutSettings
from masksearch_agent.stages.evaluation import Asked, Evaluation
from masksearch_agent.stages.index import Index
from masksearch_agent.stages.sft import SFT
from masksearch_agent.stages.stage import (
    AgentFolder,
    Artifact,
    Corpus,
    IndexFolder,
    Searched,
    TaskFile,
    Traces,
)
from masksearch_agent.stages.tasks import Masking, Split
from masksearch_agent.stages.trajectories import Lessons

__all__ = ("RecipeStages", "prompts_of", "rollouts_of", "save_recipe")

ArtifactT = TypeVar("ArtifactT", bound=Artifact)


class RecipeStages:
    """The stages of a recipe.

    Args:
        recipe: What each stage depends on.
        is_named: Whether folders have the names that the plan gives; otherwise those of their keys, so that plans in
            one directory share what they have in common.
    """

    def __init__(self, recipe: Recipe, is_named: bool = True) -> None:
        self.recipe = recipe
        self.is_named = is_named

    def index(
        self, corpus: Corpus, name: str = "index", settings: RetrievalSettings | None = None
    ) -> IndexFolder:
        """Return the index of a corpus; `settings` take the place of the recipe's."""
        return Index(
            name=self._name(name),
            title="indexing passages",
            corpus=corpus,
            reading=self.recipe.corpus,
            settings=settings or self.recipe.retrieval,
        ).index

    def search(self, index: IndexFolder, is_guarded: bool = True) -> Searched:
        """Return an index as it is searched."""
        return Searched(index, self.recipe.retrieval, is_guarded)

    def base(self, index: IndexFolder | None) -> AgentFolder:
        """Return the untrained agent."""
        recipe = self.recipe
        return BaseAgent(
            name=self._name("base"),
            title="base model",
            model=recipe.base_model,
            run=recipe.name,
            prompts=prompts_of(recipe),
            settings=recipe.agent,
            index=index,
            search_mode=recipe.retrieval.chosen_mode,
        ).trained

    def tasks(
        self,
        corpus: Corpus,
        searched: Searched,
        name: str = "tasks",
        split: Split = "train",
        max_tasks: int | None = None,
        settings: RampSettings | None = None,
    ) -> TaskFile:
        """Return the masked passages of a corpus; `settings` take the place of the recipe's."""
        return Masking(
            name=self._name(name),
            title="masking passages" if split == "train" else "masking held-out passages",
            corpus=corpus,
            searched=searched,
            reading=self.recipe.corpus,
            settings=settings or self.recipe.masking,
            split=split,
            max_tasks=max_tasks,
        ).tasks

    def trajectories(
        self, tasks: TaskFile, searched: Searched, trace_stage: str = "ramp", name: str = "trajectories"
    ) -> Traces:
        """Return the teacher's trajectories for tasks."""
        return Lessons(
            name=self._name(name),
            title=f"generating trajectories ({trace_stage})",
            tasks=tasks,
            searched=searched,
            settings=self.recipe.generator,
            agent_settings=self.recipe.agent,
            prompts=prompts_of(self.recipe),
            trace_stage=trace_stage,
        ).traces

    def sft(
        self,
        agent: AgentFolder,
        traces: Traces | tuple[Traces, ...],
        settings: SFTSettings,
        label: str,
        name: str = "",
        ramp: tuple[Traces, ...] = (),
    ) -> AgentFolder:
        """Return an agent fine-tuned on trajectories; `label` names the stage in its model version.

        Where the settings ask for a share of RAMP, it is drawn from `ramp`.
        """
        return SFT(
            name=self._name(name or label),
            title=f"SFT ({label})",
            agent=agent,
            traces=traces if isinstance(traces, tuple) and not isinstance(traces, Traces) else (traces,),
            ramp=_drawn_from(ramp, settings.ramp_share, label),
            settings=settings.model_copy(update={"seed": self.recipe.seed}),
            label=label,
        ).trained

    def dapo(
        self,
        agent: AgentFolder,
        tasks: TaskFile,
        searched: Searched,
        settings: DAPOSettings,
        label: str,
        name: str = "",
        rewards: RewardSettings | None = None,
        ramp: tuple[TaskFile, ...] = (),
    ) -> AgentFolder:
        """Return an agent trained by DAPO; `rewards` take the place of the recipe's.

        Where the settings ask for a share of RAMP, it is drawn from `ramp`.
        """
        recipe = self.recipe
        return DAPO(
            name=self._name(name or label),
            title=f"DAPO ({label})",
            agent=agent,
            tasks=tasks,
            ramp=_drawn_from(ramp, settings.ramp_share, label),
            searched=searched,
            settings=settings.model_copy(update={"seed": recipe.seed}),
            rollouts=rollouts_of(recipe, rewards),
            label=label,
        ).trained

    def evaluation(
        self, name: str, agent: AgentFolder, asked: Mapping[str, Asked], mode: Mode = "agentic"
    ) -> Evaluation:
        """Return the stage that asks an agent; `name` is what tables call it."""
        return Evaluation(
            name=self._name(f"evals/{name}"),
            title=f"evaluating {name}",
            agent=agent,
            asked=asked,
            mode=mode,
            settings=self.recipe.evaluation,
        )

    def _name(self, name: str) -> str:
        return name if self.is_named else ""


def _drawn_from(ramp: tuple[ArtifactT, ...], share: float, label: str) -> tuple[ArtifactT, ...]:
    """Return what RAMP a stage draws its share from: nothing where it has none."""
    if share and not ramp:
        raise ConfigError(f"{label}.ramp_share is {share:g}, but this run has no RAMP to mix in; set it to 0")
    return ramp if share else ()


def prompts_of(recipe: Recipe) -> PromptSet:
    """Return the prompts that a recipe names."""
    return choose_prompts(recipe.prompts, recipe.agent.answer_form)


def rollouts_of(recipe: Recipe, rewards: RewardSettings | None = None) -> RolloutSettings:
    """Return how a recipe's rollouts are rewarded and sampled; `rewards` take the place of its own."""
    return RolloutSettings(rewards or recipe.rewards, recipe.rollouts, recipe.serving)


def save_recipe(recipe: Recipe, directory: Path) -> None:
    """Write `recipe.yaml`, with every setting resolved."""
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)
    replace_text(directory / "recipe.yaml", text)
