"""Settings of the experiments: the closed world, the tiny model's base stage, and the ablations.

A recipe of the lab is a recipe of the library with these beside it.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Literal, TypeVar, get_args

from pydantic import Field, field_validator

from masksearch_agent.config.base import Settings
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.config.trainers import DAPOSettings, OptimizerSettings, SFTSettings
from masksearch_agent.errors import ConfigError

__all__ = (
    *("EXPERIMENTS", "AblationSettings", "BaseStageSettings", "Experiment", "LabRecipe", "QuestionSet"),
    *("ReadingPhase", "WorldSettings"),
)

Experiment = Literal["table", "tokens", "curriculum", "rewards", "sampling", "leak_guard", "evolution"]
"""The paper's table with the same downstream budget, and with the same total tokens; curriculum against mixed masks;
the answer rewards; dynamic sampling, and the leak guard, on and off; self-evolution."""

EXPERIMENTS: tuple[Experiment, ...] = get_args(Experiment)

_ItemT = TypeVar("_ItemT", bound=Hashable)


class AblationSettings(Settings):
    """What is compared. How each stage trains is `ramp_sft`, `ramp_dapo`, `qa_sft` and `qa_dapo`: every arm of a
    comparison has them in common, but for what it compares."""

    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Each is a closed world, an order of the data and a sampling of its own."""
    only: tuple[Experiment, ...] = Field(default=EXPERIMENTS, min_length=1)
    """Comparisons to make."""
    warm_start: SFTSettings = SFTSettings(max_steps=100)
    """Short SFT before every stage of RL, on that stage's own trajectories: a model that has never seen a search would
    earn no reward to learn from. It counts as part of the stage."""
    evolution_sft: SFTSettings = SFTSettings()
    """How each round of self-evolution trains."""
    smallest_gain: float = Field(default=0.02, gt=0)
    """A gain that matters, in the unit of the score. A claim whose whole interval lies below it is not reproduced."""

    @field_validator("seeds", "only")
    @classmethod
    def _items_are_distinct(cls, items: tuple[_ItemT, ...]) -> tuple[_ItemT, ...]:
        """Counted twice, a seed would make intervals narrower than they are."""
        if len(set(items)) < len(items):
            raise ValueError("the same one stands there twice")
        return items


class ReadingPhase(Settings):
    """A stretch of the base stage with its own kind of text."""

    text: Literal["notes", "sentences", "articles"]
    """`notes` are worded alike (`Elise Keller's mentor is Petra Garrick.`), `sentences` vary; `articles` are read as a
    search returns them, then reviewed."""
    first_world_seed: int
    """Worlds are made from this seed on, as many as the phase reads."""
    alike_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the sequences about entities of one kind with similar names; the rest is about linked entities."""
    entities_per_block: int = Field(gt=0)
    steps: int = Field(gt=0)


class BaseStageSettings(Settings):
    """How the tiny model first learns to read: plain language modelling of closed-world text."""

    phases: tuple[ReadingPhase, ...]
    """Easy to hard: looking a fact up is learned from sequences about few entities, and much later otherwise."""
    block_tokens: int = Field(default=512, gt=0)
    """Tokens of a training sequence."""
    batch_size: int = Field(default=8, gt=0)
    """Sequences per step. Small: looking up is learned by the number of steps more than by that of tokens."""
    tokenizer_worlds: int = 6
    vocab_size: int = 2048
    hidden_size: int = 128
    layers: int = 4
    heads: int = 4
    bf16: bool = False
    """Compute in bfloat16 with float32 weights, where the processor supports it."""
    compile: bool = False
    """Compile the model with `torch.compile`, which needs a C++ compiler."""
    save_steps: int = 500
    optimizer: OptimizerSettings = OptimizerSettings(name="muon", learning_rate=3e-3)
    seed: int = 0


class QuestionSet(Settings):
    """How many closed-world questions of one kind."""

    category: Literal["bridge", "comparison", "intersection", "counting"] = "bridge"
    hops: int = Field(default=2, ge=1, le=4)
    count: int = Field(gt=0)

    @property
    def name(self) -> str:
        """What files and tables call the kind: `qa_2hop`, `qa_comparison`."""
        return f"qa_{self.hops}hop" if self.category == "bridge" else f"qa_{self.category}"


class WorldSettings(Settings):
    """The closed world of a run."""

    train_entities: int = Field(default=400, ge=15)
    test_entities: int = Field(default=200, ge=15)
    train_questions: tuple[QuestionSet, ...] = (
        QuestionSet(hops=1, count=300),
        QuestionSet(hops=2, count=500),
        QuestionSet(hops=3, count=400),
    )
    test_questions: tuple[QuestionSet, ...] = (
        QuestionSet(hops=1, count=200),
        QuestionSet(hops=2, count=200),
        QuestionSet(hops=3, count=200),
    )
    test_ramp_tasks: int = Field(default=200, gt=0)


class LabRecipe(Recipe):
    """Everything that an experiment needs to know."""

    world: WorldSettings = WorldSettings()
    ablation: AblationSettings = AblationSettings()
    """Comparisons of training recipes; read by `masksearch ablate` only."""
    base_stage: BaseStageSettings | None = None
    """How the tiny base model is made; read by `masksearch base` only."""

    @property
    def stage_one_dapo(self) -> DAPOSettings:
        """`ramp_dapo`, for the experiments that cannot leave it out.

        Raises:
            ConfigError: The recipe does.
        """
        if self.ramp_dapo is None:
            raise ConfigError("this experiment reinforces Stage I; give the recipe settings for ramp_dapo")
        return self.ramp_dapo
