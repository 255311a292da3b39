"""The DAPO stage: an agent is trained by reinforcement, with rollouts through its own graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from masksearch_agent.agent.bundle import BundleInfo, read_bundle_info, save_bundle
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.config.serving import RolloutEngineSettings, ServingSettings
from masksearch_agent.config.trainers import DAPOSettings
from masksearch_agent.models.local import load_checkpoint
from masksearch_agent.models.recording import RecordingChatModel
from masksearch_agent.records import Sampling, SearchTask, content_id
from masksearch_agent.retrieval.search import Search
from masksearch_agent.rewards.mix import RewardMix
from masksearch_agent.serving.rollout_engine import open_rollout_engine
from masksearch_agent.stages.display import Bar
from masksearch_agent.stages.evaluation import Asked
from masksearch_agent.stages.stage import AgentFolder, AgentStage, Searched, Site, Spent, TaskFile
from masksearch_agent.stages.tasks import read_task_files
from masksearch_agent.stages.training import (
    ExamTasks,
    Listener,
    exam_of,
    monitor_of,
    next_info,
    spent_of,
    training_dtype,
    working_in,
)
from masksearch_agent.trainers.trackers import tracked, tracker_arguments

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from masksearch_agent.trainers.dapo import DAPOTrainer
    from masksearch_agent.trainers.resumption import TrainedOn
    from masksearch_agent.trainers.rollouts import RolloutRunner

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
    exam: Asked | None = None
    """What it is examined on while it trains (`settings.monitor`); None: nothing."""

    def work(self, folder: Path, site: Site, bar: Bar) -> Spent:
        """Train, going on from the last checkpoint."""
        source, tasks = site.where(self.agent), read_task_files([site.where(self.tasks)])
        ramp = read_task_files([site.where(file) for file in self.ramp]) if self.ramp else ()
        return run_dapo(
            source, tasks, site.search(self.searched), self.settings, self.rollouts, folder, self.label,
            bar.training_listener(), ramp=ramp, exam=exam_of(self.exam, site), report_to=site.report_to,
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
    exam: ExamTasks | None = None,
    report_to: Sequence[str] = (),
) -> Spent:
    """Train a bundle's model by DAPO with rollouts through its own graph, and save the result as a bundle.

    Args:
        source: The bundle to start from.
        search: What rollouts search.
        directory: Where the new bundle goes.
        label: Name of the stage.
        index: Index that the new agent searches by default; None for that of the source.
        ramp: Tasks that `settings.ramp_share` is drawn from.
        exam: What it is examined on while it trains, where `settings.monitor` says when; None: nothing.
        report_to: Where training is logged to, beside `metrics.jsonl`.

    Raises:
        TrainingError: There is nothing to mix in; or the folder was trained on other tasks or from another agent.
    """
    from masksearch_agent.trainers.callbacks import MetricsLog, read_metrics
    from masksearch_agent.trainers.dapo import DAPOConfig, DAPOTrainer
    from masksearch_agent.trainers.mixing import counts_of_mix, mix_in
    from masksearch_agent.trainers.resumption import train_from_last

    info = read_bundle_info(source)
    model, tokenizer = load_checkpoint(source, training_dtype(settings))
    metrics, output = directory / "metrics.jsonl", directory / "trainer"
    drawn_from = mix_in(tasks, ramp, settings.ramp_share, settings.seed) if settings.ramp_share else tasks
    mixed = counts_of_mix(tasks, drawn_from)
    engine = open_rollout_engine(
        rollouts.engine, rollouts.serving, model, tokenizer, info.model_version, directory,
        is_ahead=settings.max_staleness > 0,
    )  # fmt: skip
    with working_in(directory), engine as (sampler, weight_sync):
        monitor = monitor_of(settings, exam, sampler, info, weight_sync)
        runner = _runner(sampler, search, info, settings, rollouts.rewards)
        trainer = DAPOTrainer(
            model=model,
            args=DAPOConfig.from_settings(settings, output, **tracker_arguments(report_to, output)),
            tasks=drawn_from,
            runner=runner, processing_class=tokenizer,
            callbacks=[_trained_on(drawn_from, model, settings), MetricsLog(metrics, listener)],
            weight_sync=weight_sync, monitor=monitor,
        )  # fmt: skip
        with closing(trainer.ahead), tracked(report_to):
            train_from_last(trainer, monitor.is_stopped_by)
    described = next_info(info, source, directory, label, settings, index, mixed)
    _save(trainer, source, settings, described, directory, are_weights_new=bool(monitor.kept_step))
    entries = read_metrics(metrics)
    return _with_failures(spent_of(entries, mixed, monitor), entries, runner)


def _trained_on(tasks: Sequence[SearchTask], model: PreTrainedModel, settings: DAPOSettings) -> TrainedOn:
    from masksearch_agent.trainers.resumption import TrainedOn, weights_id

    rows_per_step = settings.prompts_per_step * settings.group_size
    return TrainedOn(content_id(*(task.id for task in tasks)), weights_id(model), rows_per_step, settings)


def _with_failures(spent: Spent, metrics: Sequence[Mapping[str, float]], runner: RolloutRunner) -> Spent:
    """Add how many rollouts there were and failed, and why, as far as this process knows."""
    steps = [entry for entry in metrics if "rollouts/failed" in entry]
    failed = round(sum(step["rollouts/failed"] for step in steps))
    reasons = Counter(runner.failures.reasons)
    if (untold := failed - reasons.total()) > 0:
        reasons["in another process, whose log says why"] = untold
    return replace(
        spent,
        items=round(sum(step["dapo/groups_sampled"] for step in steps)) * runner.group_size,
        failed=failed,
        failures=dict(reasons),
    )


def _save(
    trainer: DAPOTrainer,
    source: Path,
    settings: DAPOSettings,
    info: BundleInfo,
    directory: Path,
    are_weights_new: bool,
) -> None:
    """Write the bundle of what was trained, or of the start where that was better."""
    from masksearch_agent.trainers.weight_sync import merge_adapters

    # Sharded weights are gathered, in which every process has to take part.
    state = trainer.accelerator.get_state_dict(trainer.model)
    if trainer.accelerator.is_main_process:
        if settings.lora_rank:
            state = merge_adapters(trainer.accelerator.unwrap_model(trainer.model), state)
        trained, tokenizer = load_checkpoint(source, training_dtype(settings))
        if are_weights_new:
            trained.load_state_dict(state)
        save_bundle(trained, tokenizer, info, directory)
    trainer.accelerator.wait_for_everyone()


def _runner(
    model: RecordingChatModel,
    search: Search,
    info: BundleInfo,
    settings: DAPOSettings,
    rewards: RewardSettings,
) -> RolloutRunner:
    from masksearch_agent.trainers.rollouts import RolloutRunner

    # Held answers are not sampled from the distribution that is trained.
    limits = info.agent.model_copy(update={"answers_from_passages": False})
    agent = MaskSearchAgent(model, search, limits, info.prompts)
    sampling = Sampling(temperature=settings.temperature)
    return RolloutRunner(agent, RewardMix(rewards), sampling, settings.group_size)
