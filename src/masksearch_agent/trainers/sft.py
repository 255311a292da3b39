"""Supervised fine-tuning on trajectories, with TRL's `SFTTrainer`.

The rows come from `traces.rows.make_rows`, the same function that feeds RL, so exactly the policy's own tokens
carry a loss and no chat template is applied a second time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from masksearch_agent.config.trainers import SFTSettings
from masksearch_agent.failures import Failures
from masksearch_agent.models.chat_format import ChatFormat
from masksearch_agent.records import Trajectory
from masksearch_agent.trainers.optimization import lora_config, optimizer_arguments, shared_arguments
from masksearch_agent.trainers.ranks import leave_group_at_exit
from masksearch_agent.trainers.sft_rows import fill_last_step, hash_rows, make_sft_dataset
from masksearch_agent.trainers.trackers import tracked, tracker_arguments

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
    from trl import SFTConfig

    from masksearch_agent.trainers.monitor import Monitor

__all__ = ("train_sft",)


def train_sft(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    trajectories: Iterable[Trajectory],
    settings: SFTSettings,
    output_dir: Path,
    callbacks: Sequence[TrainerCallback] = (),
    monitor: Monitor | None = None,
    failures: Failures | None = None,
    report_to: Sequence[str] = (),
    source: str = "",
) -> PreTrainedModel:
    """Fine-tune a model on trajectories; goes on from the last checkpoint in `output_dir` if there is one.

    Args:
        model: Trained in place (adapters are merged at the end).
        trajectories: Accepted ones, easy to hard where `settings.curriculum` is set.
        output_dir: Where the trainer keeps its checkpoints.
        monitor: Watches the run; None warns of what the log says and no more. Where its `kept_step` is 0, the weights
            that it began with were better, and are not loaded.
        failures: Counts the trajectories that no rows can be made of, or a row that is too long; those are left out.
        report_to: Where the run is logged to, too.
        source: Hash of what training begins with (`resumption.weights_id`); a checkpoint of another one is refused.

    Raises:
        TrainingError: No row is left; the checkpoint is of other rows or another source; or what the monitor raises.
    """
    import torch
    from transformers import PrinterCallback
    from trl import SFTTrainer

    from masksearch_agent.trainers.logprobs import LabelledHeadTrainer
    from masksearch_agent.trainers.monitor import Monitor
    from masksearch_agent.trainers.resumption import TrainedOn, train_from_last

    monitor = monitor or Monitor()
    trajectories = _in_order(trajectories, settings)
    dataset = make_sft_dataset(trajectories, ChatFormat(tokenizer), settings.max_tokens, failures)
    arguments = _arguments(settings, output_dir, report_to, len(dataset))
    rows_per_step = _rows_per_step(arguments)
    trained_on = TrainedOn(hash_rows(dataset), source, rows_per_step, settings)
    if _sampling_strategy(settings) == "batch_rebalance":
        dataset = fill_last_step(dataset, rows_per_step, arguments.train_batch_size, tokenizer.pad_token_id)
    _, optimizer = optimizer_arguments(settings.optimizer)
    trainer = (SFTTrainer if torch.cuda.is_available() else LabelledHeadTrainer)(
        model=model,
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
        optimizer_cls_and_kwargs=optimizer,
        peft_config=lora_config(settings.lora_rank),
        callbacks=[trained_on, *callbacks, monitor],
    )
    monitor.attach(trainer)
    leave_group_at_exit()
    trainer.remove_callback(PrinterCallback)  # It prints to standard output, which is for results.
    with tracked(report_to):
        train_from_last(trainer, monitor.is_stopped_by)
    trained = trainer.accelerator.unwrap_model(trainer.model)
    return trained.merge_and_unload() if settings.lora_rank else trained


def _arguments(
    settings: SFTSettings, output_dir: Path, report_to: Sequence[str], row_count: int
) -> SFTConfig:
    from trl import SFTConfig

    shared = shared_arguments(settings, output_dir) | tracker_arguments(report_to, output_dir)
    arguments = SFTConfig(
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        max_length=None,
        # Few widths: on a CPU, bfloat16 kernels are made for each one and kept, hundreds of megabytes of them. In
        # float32 none are, and a row of 365 tokens would have a tenth of padding.
        pad_to_multiple_of=64 if shared["bf16"] else None,
        train_sampling_strategy=_sampling_strategy(settings),
        save_steps=settings.save_steps,
        logging_steps=10,
        include_num_input_tokens_seen="non_padding",  # what `callbacks.MetricsLog` notes
        **shared,
    )
    if settings.max_steps <= 0:
        arguments.max_steps = math.ceil(settings.epochs * math.ceil(row_count / _rows_per_step(arguments)))
    return arguments


def _in_order(trajectories: Iterable[Trajectory], settings: SFTSettings) -> Iterable[Trajectory]:
    if _sampling_strategy(settings) != "batch_rebalance":
        return trajectories
    # Its sampler has a seed of its own, always the same.
    rows = list(trajectories)
    return random.Random(f"rows:{settings.seed}").sample(rows, len(rows))


def _rows_per_step(arguments: SFTConfig) -> int:
    """Return how many rows a step reads, of all processes together."""
    return int(arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size)


def _sampling_strategy(settings: SFTSettings) -> str:
    """Return how a step's rows are chosen and put into micro-batches.

    They are never chosen by length: rows are as long as their tasks are hard, and stretches of one kind undo each
    other. But those of one step may be divided by it, so that less is padded.
    """
    if settings.curriculum:
        return "sequential"
    is_divided = settings.gradient_accumulation > 1 and settings.batch_size > 1
    return "batch_rebalance" if is_divided else "random"
