"""What the policy gives the tokens of a batch: log-probabilities and entropies, of those that count alone.

Most of a trajectory is prompt and passages, which carry no loss. On a GPU TRL's fused head leaves them out and never
holds the logits of a whole row. On a CPU it projects all of them, and twice, which is half of a step where a small
model has a large vocabulary (`benchmarks/sft_step.py`); there the model is asked for the labelled positions only, and
what the rows of a batch begin with is read once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple

import torch
from torch.nn.functional import pad
from transformers.cache_utils import DynamicLayer
from trl import SFTTrainer
from trl.trainer.utils import FusedCausalLMOutput

__all__ = ("LabelledHeadTrainer", "score_completions", "score_labels")

_IGNORED = -100


class _Part(NamedTuple):
    """Rows of a batch, with their log-probabilities and entropies: each `(rows, C)`."""

    rows: list[int]
    scores: tuple[torch.Tensor, torch.Tensor]


def score_completions(model: Any, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Score the trained tokens of a batch of rows.

    Args:
        model: The policy, with TRL's fused head (`add_fused_lm_head`) where it is on a GPU, or the wrapper around it.
        batch: As `batches.collate_rows` makes it, `P` prompt and `C` completion columns.

    Returns:
        Log-probabilities and, without a gradient, entropies; both `(B, C)` and 0 where no token trains.
    """
    is_trained = (batch["completion_mask"] * batch["tool_mask"]).bool()
    labels = batch["completion_ids"].masked_fill(~is_trained, _IGNORED)
    if _is_on_cpu(labels):
        return _score_by_prompt(model, batch, labels)
    scores = model(**_whole_rows(batch, labels), fused_lm_head=True)
    width = labels.shape[1]
    return scores.log_probs[:, -width:], scores.entropy[:, -width:].detach()


def _whole_rows(batch: Mapping[str, torch.Tensor], labels: torch.Tensor) -> dict[str, torch.Tensor]:
    return {
        "input_ids": torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
        "labels": torch.cat([torch.full_like(batch["prompt_ids"], _IGNORED), labels], dim=1),
        "attention_mask": torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
    }


def _is_on_cpu(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu"


def _score_by_prompt(
    model: Any, batch: Mapping[str, torch.Tensor], labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score rows, reading once what several of them begin with, as the rollouts of a group do.

    The gradients of all its rows go through the one prompt. A model under gradient checkpointing keeps no keys and
    values, so that it reads every row whole.
    """
    prompts = [] if getattr(model, "is_activation_checkpointing", False) else _rows_by_prompt(batch)
    parts: list[_Part] = []
    for rows in prompts:
        if len(rows) > 1:
            parts += _score_after_prompt(model, batch, labels, rows)
    taken = {row for part in parts for row in part.rows}
    if alone := [row for row in range(len(labels)) if row not in taken]:
        parts.append(_score_whole(model, batch, labels, alone))
    places = torch.tensor([row for part in parts for row in part.rows]).argsort()
    log_probs, entropy = (
        torch.cat(pieces)[places] for pieces in zip(*(p.scores for p in parts), strict=True)
    )
    return log_probs, entropy


def _score_whole(
    model: Any, batch: Mapping[str, torch.Tensor], labels: torch.Tensor, rows: list[int]
) -> _Part:
    width = labels.shape[1]
    chosen = {name: tensor[rows] for name, tensor in batch.items() if tensor.dim() == 2}
    log_probs, entropy = _score_from_start(model, **_whole_rows(chosen, labels[rows]))
    return _Part(rows, (log_probs[:, -width - 1 : -1], entropy[:, -width - 1 : -1]))


def _score_after_prompt(
    model: Any, batch: Mapping[str, torch.Tensor], labels: torch.Tensor, rows: list[int]
) -> list[_Part]:
    """Score rows of one prompt; nothing where the model keeps more than keys and values of what it read."""
    prompt = batch["prompt_ids"][rows[0]][batch["prompt_mask"][rows[0]].bool()]
    # The last token of it is read with each row, since it predicts the first one of the completion.
    read = model(input_ids=prompt[None, :-1], use_cache=True, logits_to_keep=1).past_key_values
    if not all(isinstance(layer, DynamicLayer) for layer in read.layers):
        return []
    parts = []
    lengths = batch["completion_mask"].sum(dim=1)
    for like in _of_like_length(lengths, rows):
        width = int(lengths[like].max())
        ids = torch.cat([batch["prompt_ids"][like, -1:], batch["completion_ids"][like, :width]], dim=1)
        own = pad(labels[like, :width], (1, 0), value=_IGNORED)
        scores = score_labels(model, ids, own, past_key_values=_copied(read, len(like)))
        missing = 0, labels.shape[1] - width
        parts.append(
            _Part(like, (pad(scores.log_probs[:, :-1], missing), pad(scores.entropy[:, :-1], missing)))
        )
    return parts


def _rows_by_prompt(batch: Mapping[str, torch.Tensor]) -> list[list[int]]:
    """Return the rows of each prompt of two tokens or more; others each by itself."""
    groups: dict[Any, list[int]] = {}
    for row, (ids, mask) in enumerate(zip(batch["prompt_ids"], batch["prompt_mask"], strict=True)):
        prompt = tuple(ids[mask.bool()].tolist())
        groups.setdefault(prompt if len(prompt) > 1 else row, []).append(row)
    return list(groups.values())


def _of_like_length(lengths: torch.Tensor, rows: Sequence[int]) -> list[list[int]]:
    """Divide rows so that none is padded to twice its length."""
    parts: dict[int, list[int]] = {}
    for row in rows:
        parts.setdefault(int(lengths[row]).bit_length(), []).append(row)
    return list(parts.values())


def _copied(cache: Any, rows: int) -> Any:
    """Return keys and values for so many rows that go on from one; what they add is not added to those given."""
    copied = copy(cache)
    copied.layers = [copy(layer) for layer in cache.layers]
    copied.batch_repeat_interleave(rows)
    return copied


def _score_from_start(
    model: Any, input_ids: torch.Tensor, labels: torch.Tensor, attention_mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score rows that are padded on both sides, moved to the left, where attention needs no mask.

    Without one it takes half the time, and no row is as wide as the longest prompt and the longest completion together.

    Returns:
        Log-probabilities and entropies `(B, T)`, at the places that the tokens have in `input_ids`.
    """
    # A row's tokens stand together, so that what a place predicts stands behind it before and after the move.
    places = attention_mask.argsort(dim=1, descending=True, stable=True)
    places = places[:, : int(attention_mask.sum(dim=1).max())]
    scores = score_labels(model, input_ids.gather(1, places), labels.gather(1, places))
    empty = torch.zeros(input_ids.shape)
    return empty.scatter(1, places, scores.log_probs), empty.scatter(1, places, scores.entropy)


def score_labels(
    model: Any,
    input_ids: torch.Tensor,
    labels: torch.Tensor,
    **kwargs: Any,
) -> FusedCausalLMOutput:
    """Return what TRL's fused head returns, computed from the logits of labelled positions alone.

    Args:
        model: The model or the wrapper around it.
        input_ids: `(B, T)`; rows are padded at their end only.
        labels: `(B, T)`, -100 where a token is not scored.
        kwargs: Of the model.

    Returns:
        Tensors `(B, T)` that hold at each position what was predicted there of the next token, 0 where that has no
        label.
    """
    targets = pad(labels[:, 1:], (0, 1), value=_IGNORED)
    is_labelled = targets != _IGNORED
    logits = model(input_ids=input_ids, logits_to_keep=is_labelled, **kwargs).logits
    log_probs = torch.log_softmax(logits.float(), dim=-1)
    chosen = targets[is_labelled]
    with torch.no_grad():
        entropy = -(log_probs.exp() * log_probs).sum(dim=-1)
        is_top1 = log_probs.argmax(dim=-1) == chosen
    log_probs = log_probs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)
    scores = {"log_probs": log_probs, "entropy": entropy, "is_top1": is_top1}
    shape = is_labelled.shape
    placed = {name: one.new_zeros(shape).masked_scatter(is_labelled, one) for name, one in scores.items()}
    return FusedCausalLMOutput(**placed, label_mask=is_labelled)


class LabelledHeadTrainer(SFTTrainer):  # type: ignore[misc]
    """SFT on a CPU: TRL's trainer with the same loss and metrics, from the logits of labelled positions alone."""

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Return the loss of a batch whose rows are padded at their end."""

        def score(attention_mask: Any, fused_lm_head: bool, **scored: Any) -> Any:
            # Padding at the end of a row is behind all that could attend to it, and attention without a mask takes half
            # the time.
            return score_labels(model, **scored)

        return super().compute_loss(score, inputs, *args, **kwargs)
