"""From trajectories to the rows of SFT, as the dataset that TRL's trainer reads."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING

from masksearch_agent.errors import TrainingError
from masksearch_agent.failures import Failures
from masksearch_agent.models.chat_format import ChatFormat
from masksearch_agent.records import TrainingRow, Trajectory
from masksearch_agent.traces.rows import make_rows

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ("fill_last_step", "hash_rows", "make_sft_dataset")

_IGNORED = -100


def make_sft_dataset(
    trajectories: Iterable[Trajectory],
    encoder: ChatFormat,
    max_tokens: int,
    failures: Failures | None = None,
) -> Dataset:
    """Return the rows as a dataset of `input_ids` and `labels`, -100 where no loss is taken.

    Args:
        trajectories: To make rows of, in the order of the dataset.
        encoder: Of the model that is trained.
        max_tokens: Longer rows are left out.
        failures: Counts the trajectories that no rows can be made of, or a row that is too long.

    Raises:
        TrainingError: No row is left.
    """
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


def fill_last_step(dataset: Dataset, rows_per_step: int, batch_size: int, pad_token_id: int) -> Dataset:
    """Add rows that nothing is learned from until an epoch's last step has one for each micro-batch.

    transformers' sampler would take others a second time.
    """
    from datasets import Dataset, concatenate_datasets

    last = len(dataset) % rows_per_step
    missing = rows_per_step // batch_size - last if last else 0
    if missing <= 0:
        return dataset
    fillers = {"input_ids": [[pad_token_id]] * missing, "labels": [[_IGNORED]] * missing}
    return concatenate_datasets([dataset, Dataset.from_dict(fillers, features=dataset.features)])


def hash_rows(dataset: Dataset) -> str:
    """Return a hash of all rows in their order."""
    digest = hashlib.sha256()
    for row in dataset:
        digest.update(array("q", [len(row["input_ids"]), *row["input_ids"], *row["labels"]]).tobytes())
    return digest.hexdigest()[:16]


def _labels(row: TrainingRow) -> list[int]:
    pairs = zip(row.input_ids, row.trainable, strict=True)
    return [token if trains else _IGNORED for token, trains in pairs]
