"""What the ablations compare, as stages of one seed: plain data, without doing any of it but self-evolution.

Arms that have a stage in common (the same settings, sources and seed) name the same stage, and it is done once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.config.trainers import DAPOSettings, SFTSettings
from masksearch_agent.errors import ConfigError
from masksearch_agent.evaluation.baselines import BASELINES
from masksearch_agent.evaluation.runner import Mode
from masksearch_agent.lab.closed_world import Split
from masksearch_agent.lab.recipe import Experiment, LabRecipe
from masksearch_agent.lab.world import World
from masksearch_agent.runs.rounds import Rounds, evolve, split_tasks
from masksearch_agent.stages.evaluation import Asked
from masksearch_agent.stages.graph import FinishedStage, StageGraph
from masksearch_agent.stages.plan import RecipeStages
from masksearch_agent.stages.stage import AgentFolder, Results, Searched, Stage, TaskFile, Traces, lineage

__all__ = (
    *("LONGER_TRAINING", "METHODS", "RAMP", "Arm", "Plan", "check_ablation", "reward_names", "same_tokens"),
    "same_tokens_name",
)

METHODS = ("SFT", "RL")
"""How a stage trains; an arm `RL+SFT` is pre-trained on RAMP by RL, then trained on questions by SFT."""

LONGER_TRAINING = "as many steps on round 1"
"""What the rounds of self-evolution have to beat: as long a training on what the teacher wrote."""

RAMP = "ramp"
"""Held-out RAMP tasks, as a test set."""


@dataclass(frozen=True)
class Arm:
    """One row of a comparison, for one seed."""

    name: str
    results: Mapping[str, Results]
    """By test set."""
    agent: AgentFolder | None = None
    """The agent behind them, whose training counts; None where that is no chain of stages."""

    @property
    def training(self) -> tuple[Stage, ...]:
        """The stages that trained the agent, the last one first."""
        return tuple(stage for stage in lineage(self.agent) if stage.kind in ("sft", "dapo"))


def check_ablation(recipe: LabRecipe) -> None:
    """Raise `ConfigError` for a recipe that lacks what its comparisons need."""
    only = recipe.ablation.only
    if recipe.qa_dapo is None and {"table", "tokens"} & set(only):
        raise ConfigError(
            "the recipe has no `qa_dapo`, which the rows with RL on questions are trained by; add it"
        )
    if "curriculum" in only and not recipe.stage_one_dapo.curriculum:
        raise ConfigError(
            "the recipe's `ramp_dapo.curriculum` is empty, so there is nothing to compare with mixed masks"
        )
    trained = {wanted.name for wanted in recipe.world.train_questions}
    tested = {wanted.name for wanted in recipe.world.test_questions}
    if {"table", "tokens"} & set(only) and not (trained & tested and tested - trained):
        raise ConfigError(
            f"the table needs test questions in domain and out of it; the recipe trains on {sorted(trained)} and tests "
            f"on {sorted(tested)}"
        )


def reward_names(rewards: RewardSettings) -> tuple[str, ...]:
    """Return the answer rewards that are compared; exact match stands for the judge where no judge model is named."""
    return ("recall", "recall_with_length_penalty", "judge" if rewards.judge else "exact_match")


class Plan:
    """The stages of one seed.

    Args:
        seed: Takes the place of the recipe's.
        graph: Does the stages that say how the others go: what pre-training took, how many rounds there were.
    """

    def __init__(self, recipe: LabRecipe, seed: int, graph: StageGraph) -> None:
        self.recipe = recipe.model_copy(update={"seed": seed})
        self.graph = graph
        self.make = RecipeStages(self.recipe, is_named=False)
        self.world = World(title="a closed world", settings=recipe.world, seed=seed)
        self.index = self.make.index(self.world.passages)
        self.base = self.make.base(self.index)

    # --- arms ----------------------------------------------------------------------------------------------

    def arms(self, experiment: Experiment) -> list[Arm]:
        """Return the arms of a comparison."""
        planned: Mapping[Experiment, Callable[[], list[Arm]]] = {
            "table": self._table,
            "tokens": self._same_tokens,
            "curriculum": self._curriculum,
            "rewards": self._rewards,
            "sampling": self._sampling,
            "leak_guard": self._leak_guard,
            "evolution": self._evolution,
        }
        return planned[experiment]()

    def _table(self) -> list[Arm]:
        baselines = [
            self._asked("RAG-PE", self.base, mode=BASELINES["rag-pe"]),
            self._asked("Agent-PE", self.base, mode=BASELINES["agent-pe"]),
        ]
        downstream = [self._asked(after, self._downstream(after, self.base)) for after in METHODS]
        return [*baselines, *downstream, *self._pre_trained()]

    def _pre_trained(self) -> list[Arm]:
        return [
            self._asked(f"{before}+{after}", self._downstream(after, self._pre_training(before)))
            for after in METHODS
            for before in METHODS
        ]

    def _same_tokens(self) -> list[Arm]:
        """Pair each pre-trained arm with one that spends all its tokens on questions."""
        arms = []
        for arm in self._pre_trained():
            after = arm.name.split("+")[1]
            wanted = sum(self.graph.finish(stage).tokens for stage in arm.training)
            alone, *warm_up = Arm("", {}, self._downstream(after, self.base)).training
            warm = sum(self.graph.finish(stage).tokens for stage in warm_up)
            steps = same_tokens(self.graph.finish(alone), wanted - warm)
            arms += [arm, self._asked(same_tokens_name(arm.name), self._downstream(after, self.base, steps))]
        return arms

    def _curriculum(self) -> list[Arm]:
        sft, dapo = self.recipe.ramp_sft, self.recipe.stage_one_dapo
        mixed, ordered = (self._sft(self.base, RAMP, _with(sft, curriculum=on)) for on in (False, True))
        return [
            self._filled("SFT, mixed", mixed),
            self._filled("SFT, curriculum", ordered),
            self._filled("RL, mixed", self._rl(self.base, RAMP, _with(dapo, curriculum=()))),
            self._filled("RL, curriculum", self._rl(self.base, RAMP, dapo)),
        ]

    def _rewards(self) -> list[Arm]:
        dapo, rewards = self.recipe.stage_one_dapo, self.recipe.rewards
        return [
            self._filled(name, self._rl(self.base, RAMP, dapo, rewards=_with(rewards, answer=name)))
            for name in reward_names(rewards)
        ]

    def _sampling(self) -> list[Arm]:
        dapo = self.recipe.stage_one_dapo
        return [
            self._filled(name, self._rl(self.base, RAMP, _with(dapo, dynamic_sampling=is_dynamic)))
            for name, is_dynamic in (("off", False), ("on", True))
        ]

    def _leak_guard(self) -> list[Arm]:
        return [
            self._filled(f"{method}, {name}", self._pre_training(method, is_guarded))
            for method in METHODS
            for name, is_guarded in (("off", False), ("on", True))
        ]

    def _evolution(self) -> list[Arm]:
        rounds = self._evolve()
        arms = [
            Arm(f"round {number}", {RAMP: exam.results["test"]})
            for number, exam in enumerate(rounds.exams, start=1)
        ]
        if self.recipe.evolution.start_from == "student" and len(rounds.exams) > 1:
            # Longer training alone: as many rounds, all on what the teacher wrote.
            agent = rounds.students[0]
            for _ in rounds.exams[1:]:
                agent = self.make.sft(agent, rounds.traces[0], rounds.sft, "longer")
            arms.append(self._asked(LONGER_TRAINING, agent, {RAMP: rounds.split.test}))
        return arms

    # --- training ------------------------------------------------------------------------------------------

    def _evolve(self) -> Rounds:
        """Do a whole self-evolution."""
        # It has to go on where recall does not rise, so that every seed has as many rounds.
        settings = _with(self.recipe.evolution, patience=self.recipe.evolution.max_rounds)
        searched = self._searched()
        pool, held_out = (
            [self.make.tasks(self.world.split(name), searched, split=name)] for name in get_args(Split)
        )
        split = split_tasks(self.make, pool, held_out, settings)
        sft = self.recipe.ablation.evolution_sft
        rounds = Rounds(self.graph, self.make, split, searched, self.base, settings, sft)
        evolve(rounds)
        return rounds

    def _pre_training(self, method: str, is_guarded: bool = True) -> AgentFolder:
        if method == "SFT":
            return self._sft(self.base, RAMP, self.recipe.ramp_sft, is_guarded)
        return self._rl(self.base, RAMP, self.recipe.stage_one_dapo, is_guarded)

    def _downstream(self, method: str, agent: AgentFolder, steps: int | None = None) -> AgentFolder:
        """Return an agent trained on questions, for other than the recipe's number of steps where one is given."""
        changes = {} if steps is None else {"max_steps": steps}
        if method == "SFT":
            return self._sft(agent, "qa", _with(self.recipe.qa_sft, **changes))
        return self._rl(agent, "qa", _with(self.recipe.qa_dapo or DAPOSettings(), **changes))

    def _sft(
        self, agent: AgentFolder, kind: str, settings: SFTSettings, is_guarded: bool = True
    ) -> AgentFolder:
        return self.make.sft(agent, self._traces(kind, is_guarded), settings, f"{kind}_sft")

    def _rl(
        self,
        agent: AgentFolder,
        kind: str,
        settings: DAPOSettings,
        is_guarded: bool = True,
        rewards: RewardSettings | None = None,
    ) -> AgentFolder:
        """Return an agent trained by RL: a warm start, then DAPO."""
        warm = self._sft(agent, kind, self.recipe.ablation.warm_start, is_guarded)
        tasks, searched = self._tasks(kind, is_guarded), self._searched(is_guarded)
        return self.make.dapo(warm, tasks, searched, settings, f"{kind}_dapo", rewards=rewards)

    # --- data and questions --------------------------------------------------------------------------------

    def _searched(self, is_guarded: bool = True) -> Searched:
        return self.make.search(self.index, is_guarded)

    def _tasks(self, kind: str, is_guarded: bool = True) -> TaskFile:
        if kind == "qa":
            return self.world.train_questions
        return self.make.tasks(self.world.split("train"), self._searched(is_guarded))

    def _traces(self, kind: str, is_guarded: bool) -> Traces:
        # A question has no source that a guard could withhold.
        is_guarded = is_guarded or kind == "qa"
        return self.make.trajectories(self._tasks(kind, is_guarded), self._searched(is_guarded), kind)

    def _filled(self, name: str, agent: AgentFolder) -> Arm:
        """Return an arm that is asked held-out RAMP tasks, always under the leak guard."""
        limit = self.recipe.world.test_ramp_tasks
        held_out = self.make.tasks(self.world.split("test"), self._searched(), split="test", max_tasks=limit)
        return self._asked(name, agent, {RAMP: held_out})

    def _asked(
        self,
        name: str,
        agent: AgentFolder,
        sets: Mapping[str, TaskFile] | None = None,
        mode: Mode = "agentic",
    ) -> Arm:
        sets = self.world.test_questions if sets is None else sets
        asked = {dataset: Asked(tasks, self._searched()) for dataset, tasks in sets.items()}
        return Arm(name, self.make.evaluation(name, agent, asked, mode).results, agent)


def same_tokens_name(arm: str) -> str:
    """Return the name of the arm without pre-training that spends as many tokens as a pre-trained one."""
    return f"{arm.split('+')[1]}, tokens of {arm}"


def same_tokens(stage: FinishedStage, wanted: int) -> int:
    """Return how many steps of a stage spend a number of tokens, at what its steps spent so far."""
    if not stage.tokens:
        return stage.steps  # It found nothing to train on, and would not in more steps.
    return max(1, round(stage.steps * wanted / stage.tokens))


def _with(settings: Any, **changes: Any) -> Any:
    return settings.model_copy(update=changes)
