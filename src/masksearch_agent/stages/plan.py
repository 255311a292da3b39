"""Makes stages, each with its part of one recipe, so that a run's plan says only what follows what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import yaml

from masksearch_agent.agent.prompts import PromptSet, add_examples, choose_prompts
from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.config.trainers import DAPOSettings, SFTSettings
from masksearch_agent.errors import ConfigError
from masksearch_agent.evaluation.runner import Mode
from masksearch_agent.files import replace_text
from masksearch_agent.stages.base import BaseAgent
from masksearch_agent.stages.choice import Candidate, Choice
from masksearch_agent.stages.dapo import DAPO, RolloutSettings
from masksearch_agent.stages.draw import Draw
from masksearch_agent.stages.evaluation import Asked, Evaluation
from masksearch_agent.stages.index import Index
from masksearch_agent.stages.parts import Parts
from masksearch_agent.stages.questions import Questions
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
from masksearch_agent.stages.trajectories import Lessons, OwnAttempts

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

    def index(self, corpus: Corpus, name: str = "index") -> IndexFolder:
        """Return the index of a corpus."""
        return Index(
            name=self._name(name),
            title="indexing passages",
            corpus=corpus,
            reading=self.recipe.corpus,
            settings=self.recipe.retrieval,
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
            # What another stage wrote are passages, whatever the columns of the documents are.
            reading=self.recipe.corpus if corpus.stage is None else CorpusSettings(),
            settings=settings or self.recipe.masking,
            split=split,
            max_tasks=max_tasks,
        ).tasks

    def parts(self, corpus: Corpus) -> Parts:
        """Return the stage that holds documents back for exams."""
        return Parts(
            name=self._name("parts"),
            title="holding documents back",
            corpus=corpus,
            reading=self.recipe.corpus,
            settings=self.recipe.exam,
            seed=self.recipe.seed,
        )

    def exam(self, corpus: Corpus, searched: Searched, name: str, at_most: int) -> Asked:
        """Return an exam on a part of a corpus, answered from the whole of it."""
        made = self.tasks(corpus, searched, f"{name}/tasks", "test", settings=self.recipe.exam_masking)
        drawn = Draw(
            name=self._name(f"{name}/questions"),
            title=f"drawing the {name} questions",
            tasks=made,
            at_most=at_most,
            seed=self.recipe.seed,
        ).drawn
        return Asked(drawn, searched)

    def choice(self, candidates: Mapping[str, Candidate]) -> AgentFolder:
        """Return the best of several agents; the first is what training started from."""
        return Choice(
            name=self._name("agent"),
            title="choosing what is served",
            candidates=candidates,
            settings=self.recipe.evaluation,
        ).trained

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

    def questions(
        self, files: Sequence[Path], name: str = "questions", held_out: Sequence[Corpus] = ()
    ) -> TaskFile:
        """Return the training questions of files, without those about passages that are held out."""
        read = tuple(TaskFile(str(file)) for file in files)
        return Questions(
            name=self._name(name),
            title="reading training questions",
            files=read,
            limit=self.recipe.question_limit,
            seed=self.recipe.seed,
            held_out=tuple(held_out),
        ).tasks

    def lessons(
        self, agent: AgentFolder, questions: TaskFile, searched: Searched, name: str = "lessons"
    ) -> tuple[Traces, ...]:
        """Return trajectories for training questions, by whom the recipe says; `agent` is the student."""
        recipe = self.recipe
        taught = self.trajectories(questions, searched, "qa", name)
        own = OwnAttempts(
            name=self._name(f"{name}_attempts"),
            title="attempting training questions",
            tasks=questions,
            searched=searched,
            agent_settings=recipe.agent,
            trace_stage="qa",
            agent=agent,
            settings=recipe.evolution,
            generator=recipe.generator,
            seed=recipe.seed,
        ).traces
        return {"teacher": (taught,), "student": (own,), "both": (taught, own)}[recipe.lessons]

    def sft(
        self,
        agent: AgentFolder,
        traces: Traces | tuple[Traces, ...],
        settings: SFTSettings,
        label: str,
        name: str = "",
        ramp: tuple[Traces, ...] = (),
        exam: Asked | None = None,
    ) -> AgentFolder:
        """Return an agent fine-tuned on trajectories; `label` names the stage in its model version.

        Where the settings ask for a share of RAMP, it is drawn from `ramp`; where `settings.monitor` is set, the agent
        is examined on `exam` while it trains.
        """
        return SFT(
            name=self._name(name or label),
            title=f"SFT ({label})",
            agent=agent,
            traces=traces if isinstance(traces, tuple) and not isinstance(traces, Traces) else (traces,),
            ramp=_drawn_from(ramp, settings.ramp_share, label),
            settings=settings.model_copy(update={"seed": self.recipe.seed}),
            label=label,
            exam=exam if settings.monitor is not None else None,
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
        exam: Asked | None = None,
    ) -> AgentFolder:
        """Return an agent trained by DAPO; `rewards` take the place of the recipe's, the rest is as in `sft`."""
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
            exam=exam if settings.monitor is not None else None,
        ).trained

    def evaluation(
        self,
        name: str,
        agent: AgentFolder,
        asked: Mapping[str, Asked],
        mode: Mode = "agentic",
        is_trained: bool = True,
        folder: str = "evals",
    ) -> Evaluation:
        """Return the stage that asks an agent; `name` is what tables call it, and its results lie in `folder`.

        One that `is_trained` is told what it was trained with, another one sees worked examples too.
        """
        return Evaluation(
            name=self._name(f"{folder}/{name}"),
            title=f"evaluating {name}" if folder == "evals" else f"{folder}: {name}",
            agent=agent,
            asked=asked,
            mode=mode,
            settings=self.recipe.evaluation,
            prompts=None
            if is_trained
            else add_examples(prompts_of(self.recipe), self.recipe.agent.answer_form),
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
