"""A recipe: one YAML file that sets every room of a run.

An explicit override beats the file, and the file beats the defaults. The resolved recipe is saved with the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.base import Settings
from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.config.engine import EngineSettings
from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.config.evolution import EvolutionSettings
from masksearch_agent.config.exam import ExamSettings
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.config.serving import RolloutEngineSettings, ServingSettings
from masksearch_agent.config.trainers import DAPOSettings, SFTSettings
from masksearch_agent.errors import ConfigError

__all__ = ("Recipe", "RecipeT", "Tracker", "load_recipe")

RecipeT = TypeVar("RecipeT", bound="Recipe")

_LEAST_QUESTIONS = 0.5

Tracker = Literal["tensorboard", "trackio", "wandb"]
"""What training can be logged to; the package and the extra are of the same name."""


class Recipe(Settings):
    """Everything a run needs to know."""

    name: str = "run"
    seed: int = 0
    max_failed: float = Field(default=0.0, ge=0, le=1)
    """Share of a command's items (questions, tasks, documents, …) that may fail before its exit code is 3 and not 0.
    Whatever it is, the command goes on and ends its work."""
    report_to: tuple[Tracker, ...] = ()
    """Where SFT and DAPO log to, beside `metrics.jsonl` (`trainers.trackers`). No stage depends on it: a run that is
    started again with another one goes on."""
    base_model: str = "Qwen/Qwen2.5-1.5B-Instruct"
    """Checkpoint folder, hub id or registered name (`plugins.BASE_MODELS`) to start from. The paper's smallest; `tiny`
    is the model of the experiments, which the package ships and which knows the closed world only."""
    prompts: Literal["compact", "brief", "full", "few_shot"] = "full"
    """What the agent is told: `compact` for a tiny model that learns what it means, `brief` for a small one that does
    and whose untrained self is shown worked examples, `full` for one that reads instructions, `few_shot` the same with
    worked examples, for one that was not trained for it."""
    corpus: CorpusSettings = CorpusSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    ramp: RampSettings = RampSettings()
    agent: AgentSettings = AgentSettings()
    generator: GeneratorSettings = GeneratorSettings()
    evolution: EvolutionSettings = EvolutionSettings()
    """Self-evolution; read by `masksearch evolve` only."""
    rewards: RewardSettings = RewardSettings()
    ramp_sft: SFTSettings = SFTSettings()
    """Stage I, supervised."""
    ramp_dapo: DAPOSettings | None = DAPOSettings()
    """Stage I, reinforced; None leaves it out of `masksearch pretrain`."""
    lessons: Literal["teacher", "student", "both"] = "teacher"
    """Who writes the trajectories of Stage II: the generator's teacher (chat models, or hindsight where the evidence of
    a question is known), the agent that Stage I made, whose attempts are kept where the judge accepts them, or both."""
    question_limit: int | None = Field(default=None, gt=0)
    """Training questions of each file at most, drawn by seed, so that a large set doesn't drown the others: the
    artificial limit of T5's mixtures (arXiv 1910.10683, section 3.5.2). None takes all."""
    qa_sft: SFTSettings = SFTSettings()
    """Stage II, on questions."""
    qa_dapo: DAPOSettings | None = None
    """Stage II, reinforced; None leaves it out. Its rewards are those of stage I: where questions have one answer,
    `rewards.answer` should punish listing candidates."""
    rollouts: RolloutEngineSettings = RolloutEngineSettings()
    """What samples the rollouts of DAPO."""
    serving: ServingSettings = ServingSettings()
    """How a model server is started."""
    evaluation: EvaluationSettings = EvaluationSettings()
    exam: ExamSettings = ExamSettings()
    """The exam on held-out documents; read by `masksearch pretrain` only."""
    engine: EngineSettings = EngineSettings()
    """Where `generate`, `ramp build` and `eval` do their work; nothing else reads it."""

    @field_validator("report_to", mode="before")
    @classmethod
    def _one_is_some(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("report_to")
    @classmethod
    def _each_once(cls, value: tuple[Tracker, ...]) -> tuple[Tracker, ...]:
        return tuple(dict.fromkeys(value))  # Named twice, one would be told everything twice.

    @model_validator(mode="after")
    def _stage_one_is_ramp(self) -> Self:
        for name in ("ramp_sft", "ramp_dapo"):
            stage = getattr(self, name)
            if share := stage.ramp_share if stage is not None else 0:
                raise ValueError(
                    f"{name}.ramp_share is {share:g}, but Stage I trains on RAMP alone; set it for qa_sft or qa_dapo"
                )
        return self

    @property
    def masking(self) -> RampSettings:
        """`ramp` with its reference model named, where one is read: the base model unless told otherwise."""
        if self.ramp.policy != "perplexity" or self.ramp.reference_model is not None:
            return self.ramp
        return self.ramp.model_copy(update={"reference_model": self.base_model})

    @property
    def exam_masking(self) -> RampSettings:
        """How exam tasks are made: as those of training, but at least half of what has one mask is asked as a question,
        whatever is trained on. Users ask questions."""
        cloze_questions = max(self.ramp.cloze_questions, _LEAST_QUESTIONS)
        return self.masking.model_copy(update={"cloze_questions": cloze_questions})


def load_recipe(
    path: Path | None = None,
    overrides: Sequence[str] = (),
    schema: type[RecipeT] = Recipe,  # type: ignore[assignment]
) -> RecipeT:
    """Read a recipe from a YAML file, or the defaults, and change it by overrides.

    Overrides are `room.setting=value` texts, as from a command line, with values in YAML.

    Raises:
        ConfigError: The file cannot be read, or a key or value does not fit.
    """
    data: Any = {}
    if path is not None:
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except OSError as failure:
            raise ConfigError(f"cannot read the recipe {path}: {failure.strerror or failure}") from failure
        except UnicodeDecodeError as failure:
            raise ConfigError(
                f"the recipe {path} is not UTF-8 text ({failure}); save it as such"
            ) from failure
        except yaml.YAMLError as failure:
            raise ConfigError(f"the recipe {path} is not valid YAML: {failure}") from failure
    if not isinstance(data, dict):
        raise ConfigError(f"the recipe {path} holds a {type(data).__name__}; expected settings by name")
    for override in overrides:
        _apply(data, override)
    try:
        return schema.model_validate(data)
    except ValidationError as failure:
        raise ConfigError(_explain(failure, path)) from failure


def _apply(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"cannot use the override {override!r}; expected `room.setting=value`")
    *parents, last = key.split(".")
    target = data
    for parent in parents:
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            raise ConfigError(f"cannot use the override {override!r}: {parent!r} is not a group of settings")
    try:
        target[last] = yaml.safe_load(text)
    except yaml.YAMLError as failure:
        raise ConfigError(f"cannot use the override {override!r}: the value is not valid YAML") from failure


def _explain(failure: ValidationError, path: Path | None) -> str:
    problems = []
    for error in failure.errors():
        where = ".".join(str(part) for part in error["loc"])
        if error["type"] == "extra_forbidden":
            problems.append(f"unknown key {where!r}")
        else:
            problems.append(f"{where}: {error['msg']} (got {error['input']!r})")
    source = f"the recipe {path}" if path is not None else "the settings"
    return f"{source} cannot be used: {'; '.join(problems)}. `masksearch recipe` prints all keys with their defaults"
