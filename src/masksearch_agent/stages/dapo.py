"""The DAPO stage: an agent is trained by reinforcement, with rollouts through its own graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from masksearch_agent.agent.bundle import BundleInfo, read_bundle_info, save_bundle
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.config.serving import RolloutEngineSettings, ServingSettings
from masksearch_agent.config.trainers import DAPOSettings
from masksearch_agent.models.local import load_checkpoint
from masksearch_agent.records import Sampling, SearchTask
from masksearch_agent.retrieval.search import Search
from masksearch_agent.rewards.mix import RewardMix
from masksearch_agent.serving.rollout_engine import open_rollout_engine
from masksearch_agent.stages.display import Bar
from masksearch_agent.stages.stage import AgentFolder, AgentStage, Searched, Site, Spent, TaskFile
from masksearch_agent.stages.tasks import read_task_files
from masksearch_agent.stages.training import Listener, next_info, spent_of, training_dtype

if TYPE_CHECKING:
    from masksearch_agent.trainers.dapo import DAPOTrainer

__all__ = ("DAPO", "RolloutSettings", "run_dapo")


@dataclass(frozen=True)
class RolloutSettings:
    """How rollouts are rewarded, and what samples them."""

    rewards: RewardSettings
    engine: RolloutEngineSettings
    serving: ServingSettings


@dataclass(frozen=True, kw_only=True, eq=False)
class DAPO(AgentStage):
    """Trains an agent by DAPO."""

    kind = "dapo"

    agent: AgentFolder
    tasks: TaskFile
    ramp: tuple[TaskFile, ...] = ()
    """What `settings.ramp_share` is drawn from."""
    searched: Searched
    settings: DAPOSettings
    rollouts: RolloutSettings
    label: str
    """What it is called in the model version and the provenance."""

    def work(self, folder: Path, site: Site, bar: Bar) -> Spent:
        """Train, going on from the last checkpoint."""
        source, tasks = site.where(self.agent), read_task_files([site.where(self.tasks)])
        ramp = read_task_files([site.where(file) for file in self.ramp]) if self.ramp else ()
        return run_dapo(
            source, tasks, site.search(self.searched), self.settings, self.rollouts, folder, self.label,
            bar.training_listener(), ramp=ramp,
        )  # fmt: skip


def run_dapo(
    source: Path,
    tasks: Sequence[SearchTask],
    search: Search,
    settings: DAPOSettings,
    rollouts: RolloutSettings,
    directory: Path,
    label: str,
    listener: Listener | None = None,
    index: Path | None = None,
    ramp: Sequence[SearchTask] = (),
) -> Spent:
    """Train a bundle's model by DAPO with rollouts through its own graph, and save the result as a bundle.

    Args:
        source: The bundle to start from.
        search: What rollouts search.
        directory: Where the new bundle goes.
        label: Name of the stage.
        index: Index that the new agent searches by default; None for that of the source.
        ramp: Tasks that `settings.ramp_share` is drawn from.

    Raises:
        TrainingError: There is nothing to mix in.
    """
    from masksearch_agent.trainers.callbacks import MetricsLog, read_metrics
    from masksearch_agent.trainers.checkpoints import find_last_checkpoint
    from masksearch_agent.trainers.dapo import DAPOConfig, DAPOTrainer
    from masksearch_agent.trainers.mixing import counts_of_mix, mix_in
    from masksearch_agent.trainers.rollouts import RolloutRunner

    info = read_bundle_info(source)
    model, tokenizer = load_checkpoint(source, training_dtype(settings))
    metrics, output = directory / "metrics.jsonl", directory / "trainer"
    drawn_from = mix_in(tasks, ramp, settings.ramp_share, settings.seed) if settings.ramp_share else tasks
    mixed = counts_of_mix(tasks, drawn_from)
    engine = open_rollout_engine(
        rollouts.engine, rollouts.serving, model, tokenizer, info.model_version, directory
    )
    with engine as (sampler, weight_sync):
        agent = MaskSearchAgent(sampler, search, info.agent, info.prompts)
        sampling = Sampling(temperature=settings.temperature)
        trainer = DAPOTrainer(
            model=model,
            args=DAPOConfig.from_settings(settings, output),
            tasks=drawn_from,
            runner=RolloutRunner(agent, RewardMix(rollouts.rewards), sampling, settings.group_size),
            processing_class=tokenizer,
            callbacks=[MetricsLog(metrics, listener)],
            weight_sync=weight_sync,
        )
        trainer.train(resume_from_checkpoint=find_last_checkpoint(output))
    described = next_info(info, source, directory, label, settings, index, mixed)
    _save_trained(trainer, source, described, settings, directory)
    trainer.accelerator.wait_for_everyone()
    return spent_of(read_metrics(metrics), mixed)


def _save_trained(
    trainer: DAPOTrainer, source: Path, described: BundleInfo, settings: DAPOSettings, directory: Path
) -> None:
    """Save what a trainer trained as a bundle, from the main process."""
    from masksearch_agent.trainers.weight_sync import merge_adapters

    # Sharded weights are gathered, in which every process has to take part.
    state = trainer.accelerator.get_state_dict(trainer.model)
    if not trainer.accelerator.is_main_process:
        return
    if settings.lora_rank:
        state = merge_adapters(trainer.accelerator.unwrap_model(trainer.model), state)
    trained, _ = load_checkpoint(source, training_dtype(settings))
    trained.load_state_dict(state)
    save_bundle(trained, trainer.processing_class, described, directory)
