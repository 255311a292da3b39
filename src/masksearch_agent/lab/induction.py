"""Weights to start a small Llama from that can already copy: an induction head before the first training step.

Looking something up in a passage rests on induction heads (Olsson et al., arXiv 2209.11895): one head notes in every
position which token stood before it, a later one looks for the position that stood after the current token and copies
what is there. A small model takes long to find this by itself; started with it, it learns from less than a million
tokens to look values up by keys of several words (`benchmarks/induction_start.py`). Starting from weights that
imitate those of a trained model is mimetic initialization (Trockman and Kolter, arXiv 2305.09828). Nothing is frozen:
training is free to keep, bend or drop it.

The first half of the residual stream says which token stands in a position, the second half which one stood before
it. In the first layer half of the heads look one position back and copy the first half into the second; the other
heads look two, three and more positions back and are otherwise random. In the second layer half of the heads
compare the first half of the query's position with the second half of each key's, and copy what the first half says
there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM

__all__ = ("start_with_induction",)

_LOOK_BACK_STRENGTH = 5.0
"""Size of the bias pairs that make a head look back; at 5 the wanted position gets almost all attention."""
_LOOK_BACK_FREQUENCIES = 6
"""Only the fastest rotations tell neighbouring positions apart."""
_MATCH_STRENGTH = 1.4
_PREVIOUS_TOKEN_GAIN = 1.4
_COPY_GAIN = 3.0
"""How much louder the copied token is than the one that stands in the position."""
_SECOND_HALF_EMBEDDING = 0.05
"""Size of the embeddings in the second half, which is kept for the previous token, relative to the first."""


def start_with_induction(model: LlamaForCausalLM, seed: int = 0) -> None:
    """Set the embeddings and the attention of the first two layers; all else keeps its random start.

    Args:
        model: A fresh Llama with attention biases, at least two layers and an even number of heads. Changed in place.
        seed: Of the embeddings.

    Raises:
        ValueError: The model is of another shape.
    """
    import torch

    config = model.config
    if not config.attention_bias or config.num_hidden_layers < 2 or config.num_attention_heads % 2:
        raise ValueError(
            "an induction start needs attention biases, two layers or more and an even number of heads; got "
            f"attention_bias={config.attention_bias}, {config.num_hidden_layers} layers, "
            f"{config.num_attention_heads} heads"
        )
    width, heads = config.hidden_size, config.num_attention_heads
    half, copying_heads = width // 2, heads // 2
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        embeddings = model.get_input_embeddings().weight
        embeddings.normal_(0.0, half**-0.5, generator=generator)
        embeddings[:, half:] *= _SECOND_HALF_EMBEDDING
        looking, matching = (layer.self_attn for layer in model.model.layers[:2])
        for head in range(heads):
            _look_back(looking, head, max(1, head - copying_heads + 2))
        # RMS normalisation brings every position to the length sqrt(width).
        unit = width**-0.5
        everything = torch.eye(half)
        rows = slice(0, copying_heads * model.model.layers[0].self_attn.head_dim)
        _copy(looking, rows, slice(0, half), slice(half, width), everything * unit * _PREVIOUS_TOKEN_GAIN)
        _copy(matching, rows, slice(0, half), slice(0, half), everything * unit * _COPY_GAIN)
        compared_halves = (slice(0, half), slice(half, width))
        for projection, compared in zip((matching.q_proj, matching.k_proj), compared_halves, strict=True):
            projection.weight[rows] = 0.0
            projection.weight[rows, compared] = everything * _MATCH_STRENGTH


def _look_back(attention: Any, head: int, distance: int) -> None:
    """Set a head's biases so that, rotated by RoPE, they agree best `distance` positions apart."""
    size = attention.head_dim
    start = head * size
    for index in range(min(_LOOK_BACK_FREQUENCIES, size // 2)):
        angle = distance * attention.config.rope_parameters["rope_theta"] ** (-2 * index / size)
        real, imaginary = start + index, start + index + size // 2
        attention.k_proj.bias[real] = _LOOK_BACK_STRENGTH
        attention.q_proj.bias[real] = _LOOK_BACK_STRENGTH * math.cos(angle)
        attention.q_proj.bias[imaginary] = -_LOOK_BACK_STRENGTH * math.sin(angle)


def _copy(attention: Any, rows: slice, source: slice, target: slice, weight: torch.Tensor) -> None:
    """Let the heads of some rows read one part of the residual stream and add it to another."""
    attention.v_proj.weight[rows] = 0.0
    attention.v_proj.weight[rows, source] = (weight != 0).to(weight)
    attention.o_proj.weight[:, rows] = 0.0
    attention.o_proj.weight[target, rows] = weight
