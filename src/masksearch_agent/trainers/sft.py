"""Supervised fine-tuning on trajectories, with TRL's `SFTTrainer`.

The rows come from `traces.rows.make_rows`, the same function that feeds RL, so exactly the policy's own tokens
carry a loss and no chat template is applied a second time.
"""

from __future__ import annotations

import hashlib
import math
import random
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from masksearch_agent.config.trainers import SFTSettings
from masksearch_agent.errors import TrainingError
from masksearch_agent.failures import Failures
from masksearch_agent.models.chat_format import ChatFormat
from masksearch_agent.records import TrainingRow, Trajectory
from masksearch_agent.traces.rows import make_rows
from masksearch_agent.trainers.optimization import lora_config, optimizer_arguments, shared_arguments
from masksearch_agent.trainers.ranks import leave_group_at_exit
from masksearch_agent.trainers.trackers import tracked, tracker_arguments

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback
    from trl import SFTConfig

    from masksearch_agent.trainers.monitor import Monitor

__all__ = ("make_sft_dataset", "train_sft")

_IGNORED = -100


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
        TrainingError: No row fits `settings.max_tokens`; the last checkpoint is of a run with other rows or of another
            source; or what the monitor raises.
    """
    import torch
    from transformers import PrinterCallback
    from trl import SFTTrainer

    from masksearch_agent.trainers.logprobs import LabelledHeadTrainer
    from masksearch_agent.trainers.monitor import Monitor
    from masksearch_agent.trainers.resumption import TrainedOn, train_from_last

    monitor = monitor or Monitor()
    if _sampling_strategy(settings) == "batch_rebalance":
        # Its sampler has a seed of its own, always the same.
        rows = list(trajectories)
        trajectories = random.Random(f"rows:{settings.seed}").sample(rows, len(rows))
    dataset = make_sft_dataset(trajectories, ChatFormat(tokenizer), settings.max_tokens, failures)
    arguments = _arguments(settings, output_dir, report_to)
    micro_batches = arguments.gradient_accumulation_steps * arguments.world_size
    rows_per_step = arguments.train_batch_size * micro_batches
    trained_on = TrainedOn(_hash_rows(dataset), source, rows_per_step)
    if arguments.max_steps <= 0:
        arguments.max_steps = math.ceil(settings.epochs * math.ceil(len(dataset) / rows_per_step))
    if _sampling_strategy(settings) == "batch_rebalance":
        dataset = _fill_last_step(dataset, rows_per_step, micro_batches, tokenizer.pad_token_id)
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


def _arguments(settings: SFTSettings, output_dir: Path, report_to: Sequence[str]) -> SFTConfig:
    from trl import SFTConfig

    shared = shared_arguments(settings, output_dir) | tracker_arguments(report_to, output_dir)
    return SFTConfig(
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        num_train_epochs=settings.epochs,
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


def _sampling_strategy(settings: SFTSettings) -> str:
    """Return how a step's rows are chosen and put into micro-batches.

    They are never chosen by length: rows are as long as their tasks are hard, and stretches of one kind undo each
    other. But those of one step may be divided by it, so that less is padded.
    """
    if settings.curriculum:
        return "sequential"
    is_divided = settings.gradient_accumulation > 1 and settings.batch_size > 1
    return "batch_rebalance" if is_divided else "random"


def make_sft_dataset(
    trajectories: Iterable[Trajectory],
    encoder: ChatFormat,
    max_tokens: int,
    failures: Failures | None = None,
) -> Dataset:
    """Return the rows as a dataset of `input_ids` and `labels`, -100 where no loss is taken."""
    from datasets import Dataset

    rows: list[TrainingRow] = []
    failures = failures or Failures()
    for trajectory in trajectories:
        try:
            made = make_rows(trajectory, encoder)
        except Exception as failure:  # noqa: BLE001 (raised again where it is more than this trajectory's)
            failures.add(f"trajectory {trajectory.id}", failure)
            continue
        short = [row for row in made if len(row.input_ids) <= max_tokens]
        rows += short
        if len(short) < len(made):
            longest = max(len(row.input_ids) for row in made)
            why = (
                f"a row of {longest} tokens is longer than `max_tokens` ({max_tokens}); raise it to keep them"
            )
            failures.add_reason(f"trajectory {trajectory.id}", why)
    if not rows:
        why = "; ".join(f"{count} failed: {reason}" for reason, count in failures.reasons.items())
        raise TrainingError(
            f"no trajectory to train on ({why or 'none was given'}); generate trajectories first, or raise `max_tokens`"
        )
    ids = [list(row.input_ids) for row in rows]
    return Dataset.from_dict({"input_ids": ids, "labels": [_labels(row) for row in rows]})


def _fill_last_step(dataset: Dataset, rows_per_step: int, micro_batches: int, pad_token_id: int) -> Dataset:
    """Add rows that nothing is learned from until an epoch's last step has one for each micro-batch.

    transformers' sampler would take others a second time.
    """
    from datasets import Dataset, concatenate_datasets

    last = len(dataset) % rows_per_step
    missing = micro_batches - last if last else 0
    if missing <= 0:
        return dataset
    fillers = {"input_ids": [[pad_token_id]] * missing, "labels": [[_IGNORED]] * missing}
    return concatenate_datasets([dataset, Dataset.from_dict(fillers, features=dataset.features)])


def _hash_rows(dataset: Dataset) -> str:
    """Return a hash of all rows in their order."""
    digest = hashlib.sha256()
    for row in dataset:
        digest.update(array("q", [len(row["input_ids"]), *row["input_ids"], *row["labels"]]).tobytes())
    return digest.hexdigest()[:16]


def _labels(row: TrainingRow) -> list[int]:
    pairs = zip(row.input_ids, row.trainable, strict=True)
    return [token if trains else _IGNORED for token, trains in pairs]
