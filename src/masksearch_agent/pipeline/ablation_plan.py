"""What the ablations compare, as stages of one seed: plain data, without doing any of it.

Arms that have a stage in common (the same settings, sources and seed) name the same stage, and the cache does it once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from masksearch_agent.config.ablation import Experiment
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.config.trainers import DAPOSettings, SFTSettings
from masksearch_agent.errors import ConfigError
from masksearch_agent.evaluation.baselines import BASELINES
from masksearch_agent.pipeline.stage_cache import Part, Stage, lineage
from masksearch_agent.pipeline.stages import FinishedStage

__all__ = (
    "LONGER_TRAINING",
    "METHODS",
    "RAMP",
    "Arm",
    "Plan",
    "check_ablation",
    "reward_names",
    "same_tokens",
    "same_tokens_name",
)

METHODS = ("SFT", "RL")
"""How a stage trains; an arm `RL+SFT` is pre-trained on RAMP by RL, then trained on questions by SFT."""

LONGER_TRAINING = "as many steps on round 1"
"""What the rounds of self-evolution have to beat: as long a training on what the teacher wrote."""

RAMP = "ramp"
"""Held-out RAMP tasks, as a test set."""

Finish = Callable[[Stage], FinishedStage]
"""Does a stage, or finds it done."""

_ROLLED_OUT = ("rewards", "rollouts", "serving")


@dataclass(frozen=True)
class Arm:
    """One row of a comparison, for one seed."""

    name: str
    results: Mapping[str, Part]
    """A file of per-question results by test set."""
    agent: Part | None = None
    """The agent behind them, whose training counts; None where that is no chain of stages."""

    @property
    def training(self) -> tuple[Stage, ...]:
        """The stages that trained the agent, the last one first."""
        return tuple(stage for stage in lineage(self.agent, "agent") if stage.kind in ("sft", "dapo"))


def check_ablation(recipe: Recipe) -> None:
    """Refuse a recipe that lacks what its comparisons need.

    Raises:
        ConfigError: It does.
    """
    only = recipe.ablation.only
    if recipe.qa_dapo is None and {"table", "tokens"} & set(only):
        raise ConfigError(
            "the recipe has no `qa_dapo`, which the rows with RL on questions are trained by; add it"
        )
    if "curriculum" in only and not recipe.ramp_dapo.curriculum:
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
        recipe: What is compared, and how each stage works.
        seed: Takes the place of the recipe's.
    """

    def __init__(self, recipe: Recipe, seed: int) -> None:
        self.recipe = recipe.model_copy(update={"seed": seed})
        self.seed = seed
        self.world = self._stage("world", "a closed world", ("world",))
        self.index = self._stage(
            "index", "indexing its passages", ("retrieval",), {"world": self.world.part()}
        )
        self.base = self._stage(
            "base",
            "base model",
            ("base_model", "prompts", "agent", "retrieval"),
            {"index": self.index.part("index")},
        ).part("agent")

    # --- arms ----------------------------------------------------------------------------------------------

    def arms(self, experiment: Experiment, finish: Finish) -> list[Arm]:
        """Return the arms of a comparison.

        Args:
            experiment: The comparison.
            finish: Does the stages that say how the others go: what pre-training took, how many rounds there were.
        """
        planned: Mapping[Experiment, Callable[[], list[Arm]]] = {
            "table": self._table,
            "tokens": lambda: self._same_tokens(finish),
            "curriculum": self._curriculum,
            "rewards": self._rewards,
            "sampling": self._sampling,
            "leak_guard": self._leak_guard,
            "evolution": lambda: self._evolution(finish),
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

    def _same_tokens(self, finish: Finish) -> list[Arm]:
        """Pair each pre-trained arm with one that spends all its tokens on questions."""
        arms = []
        for arm in self._pre_trained():
            after = arm.name.split("+")[1]
            wanted = sum(finish(stage).tokens for stage in arm.training)
            alone = self._downstream(after, self.base)
            warm = sum(finish(stage).tokens for stage in list(lineage(alone, "agent"))[1:])
            steps = same_tokens(finish(alone.stage), wanted - warm)
            arms += [arm, self._asked(same_tokens_name(arm.name), self._downstream(after, self.base, steps))]
        return arms

    def _curriculum(self) -> list[Arm]:
        sft, dapo = self.recipe.ramp_sft, self.recipe.ramp_dapo
        return [
            *(
                self._filled(f"SFT, {name}", self._sft(self.base, RAMP, _with(sft, curriculum=is_ordered)))
                for name, is_ordered in (("mixed", False), ("curriculum", True))
            ),
            self._filled("RL, mixed", self._rl(self.base, RAMP, _with(dapo, curriculum=()))),
            self._filled("RL, curriculum", self._rl(self.base, RAMP, dapo)),
        ]

    def _rewards(self) -> list[Arm]:
        dapo, rewards = self.recipe.ramp_dapo, self.recipe.rewards
        return [
            self._filled(name, self._rl(self.base, RAMP, dapo, rewards=_with(rewards, answer=name)))
            for name in reward_names(rewards)
        ]

    def _sampling(self) -> list[Arm]:
        dapo = self.recipe.ramp_dapo
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

    def _evolution(self, finish: Finish) -> list[Arm]:
        evolution = self._evolution_run()
        rounds = finish(evolution).steps
        held_out = evolution.part("run/tasks/test.jsonl")
        arms = [
            Arm(f"round {number}", {RAMP: evolution.part(f"run/rounds/{number}/test.jsonl")})
            for number in range(1, rounds + 1)
        ]
        if self.recipe.evolution.start_from == "student" and rounds > 1:
            # Longer training alone: as many rounds, all on what the teacher wrote.
            agent = evolution.part("run/rounds/1/student")
            for _ in range(rounds - 1):
                agent = self._train(
                    agent, evolution.part("run/traces.sqlite"), "train-1", self.recipe.ablation.evolution_sft
                )
            arms.append(self._asked(LONGER_TRAINING, agent, {RAMP: held_out}))
        return arms

    # --- training ------------------------------------------------------------------------------------------

    def _evolution_run(self) -> Stage:
        """Return the stage of a whole self-evolution run; its steps are its rounds."""
        # It has to go on where recall does not rise, so that every seed has as many rounds.
        rounds = self.recipe.evolution
        settings = {
            "evolution": _with(rounds, patience=rounds.max_rounds).model_dump(mode="json"),
            "ramp_sft": self.recipe.ablation.evolution_sft.model_dump(mode="json"),
        }
        fields = ("world", "retrieval", "ramp", "agent", "generator", "base_model", "prompts", "evaluation")
        return self._stage("evolution", "self-evolution", fields, changes=settings)

    def _pre_training(self, method: str, is_guarded: bool = True) -> Part:
        if method == "SFT":
            return self._sft(self.base, RAMP, self.recipe.ramp_sft, is_guarded)
        return self._rl(self.base, RAMP, self.recipe.ramp_dapo, is_guarded)

    def _downstream(self, method: str, agent: Part, steps: int | None = None) -> Part:
        """Return an agent trained on questions, for other than the recipe's number of steps where one is given."""
        changes = {} if steps is None else {"max_steps": steps}
        if method == "SFT":
            return self._sft(agent, "qa", _with(self.recipe.qa_sft, **changes))
        return self._rl(agent, "qa", _with(self.recipe.qa_dapo or DAPOSettings(), **changes))

    def _sft(self, agent: Part, kind: str, settings: SFTSettings, is_guarded: bool = True) -> Part:
        return self._train(agent, self._traces(kind, is_guarded).part("traces.sqlite"), kind, settings)

    def _train(self, agent: Part, traces: Part, trace_stage: str, settings: SFTSettings) -> Part:
        extra = {"sft": settings.model_dump(mode="json"), "trace_stage": trace_stage}
        title = f"SFT on {trace_stage}"
        return self._stage("sft", title, (), {"agent": agent, "traces": traces}, extra).part("agent")

    def _rl(
        self,
        agent: Part,
        kind: str,
        settings: DAPOSettings,
        is_guarded: bool = True,
        rewards: RewardSettings | None = None,
    ) -> Part:
        """Return an agent trained by RL: a warm start, then DAPO."""
        warm = self._sft(agent, kind, self.recipe.ablation.warm_start, is_guarded)
        sources = {"agent": warm, "tasks": self._tasks(kind, is_guarded), "index": self.index.part("index")}
        extra = {"dapo": settings.model_dump(mode="json"), "is_guarded": is_guarded}
        changes = {"rewards": rewards.model_dump(mode="json")} if rewards is not None else {}
        return self._stage("dapo", f"DAPO on {kind}", _ROLLED_OUT, sources, extra, changes).part("agent")

    # --- data ----------------------------------------------------------------------------------------------

    def _tasks(self, kind: str, is_guarded: bool = True) -> Part:
        if kind == "qa":
            return self.world.part("questions/qa_train.jsonl")
        return self._masks("train", is_guarded).part("tasks.jsonl")

    def _masks(self, split: str, is_guarded: bool = True) -> Stage:
        sources = {"world": self.world.part(), "index": self.index.part("index")}
        limit = self.recipe.world.test_ramp_tasks if split == "test" else None
        extra = {"split": split, "is_guarded": is_guarded, "max_tasks": limit}
        return self._stage("masks", f"masking passages ({split})", ("ramp",), sources, extra)

    def _traces(self, kind: str, is_guarded: bool) -> Stage:
        # A question has no source that a guard could withhold.
        is_guarded = is_guarded or kind == "qa"
        sources = {"tasks": self._tasks(kind, is_guarded), "index": self.index.part("index")}
        extra = {"trace_stage": kind, "is_guarded": is_guarded}
        fields = ("generator", "agent", "prompts")
        return self._stage("traces", f"trajectories ({kind})", fields, sources, extra)

    # --- evaluation ----------------------------------------------------------------------------------------

    def _questions(self) -> dict[str, Part]:
        names = [wanted.name for wanted in self.recipe.world.test_questions]
        return {name: self.world.part(f"questions/{name}_test.jsonl") for name in names}

    def _filled(self, name: str, agent: Part) -> Arm:
        """Return an arm that is asked held-out RAMP tasks, always under the leak guard."""
        return self._asked(name, agent, {RAMP: self._masks("test").part("tasks.jsonl")})

    def _asked(
        self, name: str, agent: Part, sets: Mapping[str, Part] | None = None, mode: str = "agentic"
    ) -> Arm:
        sets = self._questions() if sets is None else sets
        sources = {
            "agent": agent,
            "index": self.index.part("index"),
            **{f"set {s}": p for s, p in sets.items()},
        }
        if agent.stage.kind == "evolution" or any(p.stage.kind == "evolution" for p in sets.values()):
            del sources["index"]  # It searches the index of its own world.
        results = self._stage("evaluation", f"evaluating {name}", ("evaluation",), sources, {"mode": mode})
        return Arm(name, {test_set: results.part(f"{test_set}.jsonl") for test_set in sets}, agent)

    def _stage(
        self,
        kind: str,
        title: str,
        fields: tuple[str, ...],
        sources: Mapping[str, Part] | None = None,
        extra: Mapping[str, Any] | None = None,
        changes: Mapping[str, Any] | None = None,
    ) -> Stage:
        """Return a stage that depends on these fields of the recipe and its seed, and on `extra`."""
        dumped = self.recipe.model_dump(mode="json", include={"seed", *fields})
        settings = {"recipe": {**dumped, **(changes or {})}, **(extra or {})}
        return Stage(kind, settings, sources or {}, f"seed {self.seed}: {title}")


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
