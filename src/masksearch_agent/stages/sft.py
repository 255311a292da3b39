"""The SFT stage: an agent is fine-tuned on accepted trajectories."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from masksearch_agent.agent.bundle import read_bundle_info, save_bundle
from masksearch_agent.config.trainers import SFTSettings
from masksearch_agent.environment import is_first_process
from masksearch_agent.failures import Failures
from masksearch_agent.generator.evolution import merge_accepted
from masksearch_agent.models.local import LocalChatModel, load_checkpoint
from masksearch_agent.records import Trajectory
from masksearch_agent.stages.display import Bar
from masksearch_agent.stages.evaluation import Asked
from masksearch_agent.stages.stage import AgentFolder, AgentStage, Site, Spent, Traces
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
from masksearch_agent.traces.store import TraceStore

__all__ = ("SFT", "read_accepted", "run_sft")


@dataclass(frozen=True, kw_only=True, eq=False)
class SFT(AgentStage):
    """Fine-tunes an agent."""

    kind = "sft"

    agent: AgentFolder
    traces: tuple[Traces, ...]
    """What it is trained on; of a task that several stages did, the first trajectory that was accepted."""
    ramp: tuple[Traces, ...] = ()
    """What `settings.ramp_share` is drawn from, read as `traces` are."""
    settings: SFTSettings
    label: str
    """What it is called in the model version and the provenance."""
    exam: Asked | None = None
    """What it is examined on while it trains (`settings.monitor`); None: nothing."""

    def work(self, folder: Path, site: Site, bar: Bar) -> Spent:
        """Train, going on from the last checkpoint."""
        accepted, ramp = (
            read_accepted([(site.where(traces), traces.trace_stage) for traces in read])
            for read in (self.traces, self.ramp)
        )
        source, listener, exam = site.where(self.agent), bar.training_listener(), exam_of(self.exam, site)
        return run_sft(
            source, accepted, self.settings, folder, self.label, listener, ramp=ramp, exam=exam,
            report_to=site.report_to,
        )  # fmt: skip


def read_accepted(stores: Sequence[tuple[Path, str]]) -> list[Trajectory]:
    """Read the accepted trajectories of stages of trace stores: all of one stage, of several one a task."""
    rounds = []
    for path, trace_stage in stores:
        with TraceStore(path) as store:
            rounds.append(list(store.trajectories(trace_stage, accepted=True)))
    return rounds[0] if len(rounds) == 1 else merge_accepted(rounds)


def run_sft(
    source: Path,
    trajectories: Sequence[Trajectory],
    settings: SFTSettings,
    directory: Path,
    label: str,
    listener: Listener | None = None,
    index: Path | None = None,
    ramp: Sequence[Trajectory] = (),
    exam: ExamTasks | None = None,
    report_to: Sequence[str] = (),
) -> Spent:
    """Fine-tune a bundle's model on trajectories and save the result as a bundle.

    Args:
        source: The bundle to start from.
        trajectories: In any order; a curriculum orders them.
        directory: Where the new bundle goes; checkpoints are kept in its `trainer/` until it is complete.
        label: Name of the stage, for the model version and the provenance.
        index: Index that the new agent searches by default; None for that of the source.
        ramp: What `settings.ramp_share` is drawn from.
        exam: What it is examined on while it trains, where `settings.monitor` says when; None: nothing.
        report_to: Where training is logged to, beside `metrics.jsonl`.

    Raises:
        TrainingError: There is nothing to train on, or nothing to mix in; or the folder holds checkpoints of a run on
            other trajectories or from another agent.
    """
    from masksearch_agent.trainers.callbacks import MetricsLog, read_metrics
    from masksearch_agent.trainers.curriculum import order_by_difficulty, repeat_to_fit
    from masksearch_agent.trainers.mixing import counts_of_mix, mix_in
    from masksearch_agent.trainers.resumption import weights_id
    from masksearch_agent.trainers.sft import train_sft

    info = read_bundle_info(source)
    ordered = mix_in(trajectories, ramp, settings.ramp_share, settings.seed)
    mixed = counts_of_mix(trajectories, ordered)
    if settings.curriculum:
        ordered = order_by_difficulty(repeat_to_fit(ordered, settings), settings.seed)
    model, tokenizer = load_checkpoint(source, training_dtype(settings))
    metrics = directory / "metrics.jsonl"
    log, failures = MetricsLog(metrics, listener), Failures()
    with ExitStack() as stack:
        stack.enter_context(working_in(directory))
        sampler = None
        if exam is not None and settings.monitor is not None:
            local = LocalChatModel(model=model, tokenizer=tokenizer, model_version=info.model_version)
            sampler = stack.enter_context(closing(local))
        monitor = monitor_of(settings, exam, sampler, info)
        trained = train_sft(
            model, tokenizer, ordered, settings, directory / "trainer", [log], monitor, failures, report_to,
            weights_id(model),
        )  # fmt: skip
    if is_first_process():  # Of several, each has the same weights.
        if not monitor.kept_step:
            trained, _ = load_checkpoint(source, training_dtype(settings))
        described = next_info(info, source, directory, label, settings, index, mixed)
        save_bundle(trained, tokenizer, described, directory)
    spent = spent_of(read_metrics(metrics), mixed, monitor)
    return replace(spent, items=len(ordered), failed=failures.count, failures=dict(failures.reasons))
