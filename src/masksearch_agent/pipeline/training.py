"""Training stages from bundle to bundle: what the command line and the quickstart both run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from masksearch_agent.agent.bundle import BundleInfo, read_bundle_info, save_bundle
from masksearch_agent.agent.prompts import PromptSet, choose_prompts
from masksearch_agent.agent.protocol import PROTOCOL_VERSION
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.config.trainers import DAPOSettings, SFTSettings
from masksearch_agent.models.local import load_checkpoint
from masksearch_agent.pipeline.rollout_engine import open_rollout_engine
from masksearch_agent.pipeline.versions import package_versions
from masksearch_agent.records import Sampling, SearchTask, Trajectory
from masksearch_agent.retrieval.search import Search
from masksearch_agent.rewards.mix import RewardMix

__all__ = ("StageResult", "make_base_bundle", "prompts_of", "run_dapo", "run_sft")

Listener = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a training stage took."""

    steps: int
    tokens: int
    """Tokens that went through the model in training, context included."""


def make_base_bundle(recipe: Recipe, directory: Path, index: str = "") -> BundleInfo:
    """Wrap the recipe's base model as a bundle: an agent without any search training.

    Args:
        recipe: Names the model, the prompts and the limits.
        directory: Where the bundle goes.
        index: Folder of the index, relative to the bundle.
    """
    model, tokenizer = load_checkpoint(recipe.base_model)
    info = BundleInfo(
        protocol_version=PROTOCOL_VERSION,
        prompts=prompts_of(recipe),
        agent=recipe.agent,
        model_version=f"{recipe.name}/base",
        index=index,
        search_mode=recipe.retrieval.chosen_mode,
        provenance={"base_model": recipe.base_model, "versions": package_versions()},
    )
    save_bundle(model, tokenizer, info, directory)
    return info


def prompts_of(recipe: Recipe) -> PromptSet:
    """Return the prompts that a recipe names."""
    return choose_prompts(recipe.prompts, recipe.agent.answer_form)


def run_sft(
    source: Path,
    trajectories: Iterable[Trajectory],
    settings: SFTSettings,
    directory: Path,
    stage: str,
    listener: Listener | None = None,
    index: Path | None = None,
) -> StageResult:
    """Fine-tune a bundle's model on trajectories and save the result as a bundle.

    Args:
        source: The bundle to start from.
        trajectories: What to train on, in any order; a curriculum orders them.
        settings: Of the stage.
        directory: Where the new bundle goes; checkpoints are kept in its `trainer/` until it is complete.
        stage: Name of the stage, for the model version and the provenance.
        listener: Progress display.
        index: Index that the new agent searches by default; None for that of the source.
    """
    from masksearch_agent.trainers.callbacks import MetricsLog, read_metrics
    from masksearch_agent.trainers.curriculum import order_by_difficulty
    from masksearch_agent.trainers.sft import train_sft

    info = read_bundle_info(source)
    # A store returns them in the order in which they were finished, which is another one each time.
    by_id = sorted(trajectories, key=lambda trajectory: trajectory.id)
    ordered = order_by_difficulty(by_id, settings.seed) if settings.curriculum else by_id
    model, tokenizer = load_checkpoint(source, _training_dtype(settings))
    metrics = directory / "metrics.jsonl"
    trained = train_sft(
        model, tokenizer, ordered, settings, directory / "trainer", [MetricsLog(metrics, listener)]
    )
    save_bundle(trained, tokenizer, _next_info(info, source, directory, stage, settings, index), directory)
    return _result(read_metrics(metrics))


def run_dapo(
    source: Path,
    tasks: Sequence[SearchTask],
    search: Search,
    recipe: Recipe,
    settings: DAPOSettings,
    directory: Path,
    stage: str,
    listener: Listener | None = None,
    index: Path | None = None,
) -> StageResult:
    """Train a bundle's model by DAPO with rollouts through its own graph, and save the result as a bundle.

    Args:
        source: The bundle to start from.
        tasks: Tasks to draw from.
        search: What rollouts search.
        recipe: Rewards, and what samples the rollouts.
        settings: Of the stage.
        directory: Where the new bundle goes.
        stage: Name of the stage.
        listener: Progress display.
        index: Index that the new agent searches by default; None for that of the source.
    """
    from masksearch_agent.trainers.callbacks import MetricsLog, read_metrics
    from masksearch_agent.trainers.checkpoints import find_last_checkpoint
    from masksearch_agent.trainers.dapo import DAPOConfig, DAPOTrainer
    from masksearch_agent.trainers.rollouts import RolloutRunner
    from masksearch_agent.trainers.weight_sync import merge_adapters

    info = read_bundle_info(source)
    model, tokenizer = load_checkpoint(source, _training_dtype(settings))
    metrics = directory / "metrics.jsonl"
    output = directory / "trainer"
    engine = open_rollout_engine(recipe, model, tokenizer, info.model_version, directory)
    with engine as (sampler, weight_sync):
        agent = MaskSearchAgent(sampler, search, info.agent, info.prompts)
        runner = RolloutRunner(
            agent, RewardMix(recipe.rewards), Sampling(temperature=settings.temperature), settings.group_size
        )
        trainer = DAPOTrainer(
            model=model,
            args=DAPOConfig.from_settings(settings, output),
            settings=settings,
            tasks=tasks,
            runner=runner,
            processing_class=tokenizer,
            callbacks=[MetricsLog(metrics, listener)],
            weight_sync=weight_sync,
        )
        trainer.train(resume_from_checkpoint=find_last_checkpoint(output))
    # Sharded weights are gathered, in which every process has to take part.
    state = trainer.accelerator.get_state_dict(trainer.model)
    if trainer.accelerator.is_main_process:
        if settings.lora_rank:
            state = merge_adapters(trainer.accelerator.unwrap_model(trainer.model), state)
        trained, _ = load_checkpoint(source, _training_dtype(settings))
        trained.load_state_dict(state)
        next_info = _next_info(info, source, directory, stage, settings, index)
        save_bundle(trained, tokenizer, next_info, directory)
    trainer.accelerator.wait_for_everyone()
    return _result(read_metrics(metrics))


def _training_dtype(settings: SFTSettings | DAPOSettings) -> Literal["auto", "float32"]:
    """Return what weights are held in: a step of a usual size is lost in bfloat16's rounding.

    Adapters are float32 whatever the weights under them are, so those stay as they were saved.
    """
    return "auto" if settings.lora_rank else "float32"


def _next_info(
    info: BundleInfo,
    source: Path,
    directory: Path,
    stage: str,
    settings: SFTSettings | DAPOSettings,
    index: Path | None,
) -> BundleInfo:
    """Describe a bundle that a stage made of another; the chain of stages is kept."""
    done = {"stage": stage, "settings": settings.model_dump(mode="json")}
    if index is None and info.index:
        index = source / info.index
    relative = os.path.relpath(index.resolve(), directory.resolve()) if index is not None else ""
    return info.model_copy(
        update={
            "model_version": f"{info.model_version.split('/')[0]}/{stage}",
            "index": relative,
            "provenance": {
                **info.provenance,
                "parent": source.name,
                "stages": [*info.provenance.get("stages", []), done],
                "versions": package_versions(),
            },
        }
    )


def _result(metrics: Sequence[dict[str, float]]) -> StageResult:
    steps = max((int(entry["step"]) for entry in metrics), default=0)
    tokens = max((int(entry["num_tokens"]) for entry in metrics if "num_tokens" in entry), default=0)
    return StageResult(steps=steps, tokens=tokens)
