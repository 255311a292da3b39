"""From training rows to the tensors of a DAPO step: padded, and dealt out to micro-batches of like length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from masksearch_agent.errors import TrainingError
from masksearch_agent.records import TrainingRow

__all__ = ("RowOrder", "batch_parts", "collate_rows", "split_batch", "trim_padding")

RowOrder = Literal["random", "by_length", "by_prompt"]
"""Of rows that are dealt out: the shortest first, so that little is padding; or those of one prompt together, which is
then read once on a CPU (`logprobs.score_completions`)."""


def collate_rows(
    rows: Sequence[TrainingRow],
    advantages: Sequence[float],
    pad_token_id: int,
    multiple_of: int = 1,
    at_least: int = 1,
) -> dict[str, torch.Tensor]:
    """Pad rows into tensors, named as TRL names them.

    Args:
        rows: `B` rows with recorded log-probabilities.
        advantages: One advantage for each row.
        pad_token_id: Fills prompts on the left and completions on the right.
        multiple_of: `B` is rounded up to a multiple of this with rows that have no trainable token.
        at_least: Smallest `B`; metrics are gathered over ranks, which have to have equally many rows.

    Returns:
        `prompt_ids`, `prompt_mask` `(B, P)` int64; `completion_ids`, `completion_mask`, `tool_mask` `(B, C)`
        int64 with `tool_mask` 1 where a token trains; `sampling_per_token_logps` `(B, C)` float32; `advantages`
        `(B,)` float32.
    """
    count = -(-max(1, at_least, len(rows)) // multiple_of) * multiple_of
    prompts = [row.input_ids[: row.prompt_length] for row in rows]
    completions = [row.input_ids[row.prompt_length :] for row in rows]
    prompt_width = max([len(prompt) for prompt in prompts], default=1)
    width = max([len(completion) for completion in completions], default=1)
    batch = {
        "prompt_ids": torch.full((count, prompt_width), pad_token_id),
        "prompt_mask": torch.zeros((count, prompt_width), dtype=torch.int64),
        "completion_ids": torch.full((count, width), pad_token_id),
        "completion_mask": torch.zeros((count, width), dtype=torch.int64),
        "tool_mask": torch.zeros((count, width), dtype=torch.int64),
        "sampling_per_token_logps": torch.zeros((count, width)),
        "advantages": torch.zeros(count),
    }
    for index, (row, prompt, completion) in enumerate(zip(rows, prompts, completions, strict=True)):
        if row.logprobs is None:
            raise TrainingError(f"a row of trajectory {row.trajectory_id!r} has no log-probabilities")
        before, after = slice(prompt_width - len(prompt), None), slice(len(completion))
        batch["prompt_ids"][index, before] = torch.tensor(prompt)
        batch["prompt_mask"][index, before] = 1
        batch["completion_ids"][index, after] = torch.tensor(completion)
        batch["completion_mask"][index, after] = 1
        batch["tool_mask"][index, after] = torch.tensor(row.trainable[row.prompt_length :]).long()
        batch["sampling_per_token_logps"][index, after] = torch.tensor(row.logprobs[row.prompt_length :])
        batch["advantages"][index] = advantages[index]
    # An attention row must not be all padding.
    batch["prompt_mask"][len(rows) :, -1] = 1
    batch["completion_mask"][len(rows) :, 0] = 1
    return batch


def split_batch(batch: dict[str, torch.Tensor], parts: int, order: RowOrder) -> list[dict[str, torch.Tensor]]:
    """Deal the rows of a batch out to micro-batches.

    Args:
        batch: Tensors of one row count; those without a row dimension go into every part.
        parts: Micro-batches; they divide the row count.
        order: In which rows are dealt out.
    """
    lengths = batch["prompt_mask"].sum(dim=1) + batch["completion_mask"].sum(dim=1)
    if order == "random":
        places = torch.randperm(len(lengths))
    elif order == "by_length":
        places = lengths.argsort(stable=True)
    else:
        padded = torch.stack([batch["prompt_ids"], batch["prompt_mask"]], dim=1)
        _, prompts = torch.unique(padded, dim=0, return_inverse=True)
        longest = lengths.new_zeros(len(lengths)).scatter_reduce(0, prompts, lengths, "amax")[prompts]
        # By the longest row of the prompt, then by prompt, then by length: sorted by the last of these first.
        places = lengths.argsort(stable=True)
        for key in (prompts, longest):
            places = places[key[places].argsort(stable=True)]
    return [
        {name: tensor[chosen] if tensor.dim() else tensor for name, tensor in batch.items()}
        for chosen in places.chunk(parts)
    ]


def batch_parts(batch: dict[str, torch.Tensor], size: int) -> list[dict[str, torch.Tensor]]:
    """Return a batch in parts of so many rows, in its order."""
    starts = range(0, len(batch["advantages"]), size)
    return [{name: tensor[start : start + size] for name, tensor in batch.items()} for start in starts]


def trim_padding(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Drop the columns of a micro-batch that are padding in all of its rows."""
    prompt = slice(int(batch["prompt_mask"].any(dim=0).int().argmax()), None)
    completion = slice(int(batch["completion_mask"].any(dim=0).sum()))
    return {
        name: tensor[:, prompt if name.startswith("prompt_") else completion] if tensor.dim() == 2 else tensor
        for name, tensor in batch.items()
    }
