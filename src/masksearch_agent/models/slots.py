"""The key-value cache of continuous batching: one slot a sequence, written in place.

`generate` keeps one cache for one batch, so a batch ends when its longest reply does. Here sequences come and go
between two forward passes: a new one takes the next free slot, and the last slot moves into that of one that ended,
so the slots in use are always the first ones and are read without a copy.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from masksearch_agent.errors import ModelError
from masksearch_agent.models.prefixes import States

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ("FULL", "SLIDING", "SlotCache", "attention_windows")

FULL, SLIDING = "full_attention", "sliding_attention"
"""Types of layers, as transformers names them."""

_COLUMN_STEP = 128
"""Room for tokens grows by this much at a time."""


class SlotCache(Cache):  # type: ignore[misc]
    """Keys and values of sequences that start and end at different times.

    A slot holds one sequence in its columns, one a token. Before each forward pass, say what it writes (`expect`).
    """

    def __init__(self, layer_count: int) -> None:
        # Without a circle of references, its memory is free the moment the last request is done.
        itself = cast("SlotCache", weakref.proxy(self))
        super().__init__(layers=[_SlotLayer(itself) for _ in range(layer_count)])
        self.slots = 0
        """Slots there is room for."""
        self.columns = 0
        """Tokens a slot has room for."""
        self.read_slots: slice | torch.Tensor = slice(0)
        self.width = 0
        """Columns of each slot that the next pass reads."""
        self.sources = self.targets = (torch.empty(0), torch.empty(0))
        """Rows and places in them of the tokens of a pass, and the slots and columns that they are written to."""

    def reserve(self, slots: int, columns: int) -> None:
        """Make room for a number of slots and of tokens in each; what they hold is kept."""
        if slots <= self.slots and columns <= self.columns:
            return
        self.slots = max(self.slots, slots)
        self.columns = max(self.columns, -(-columns // _COLUMN_STEP) * _COLUMN_STEP)
        for layer in self.layers:
            layer.grow(self.slots, self.columns)

    def expect(
        self, slots: Sequence[int], positions: torch.Tensor, is_real: torch.Tensor, device: torch.device
    ) -> None:
        """Say what the next pass reads and writes.

        Args:
            slots: Of its rows.
            positions: `(B, T)` int64, on the CPU; the column of each token.
            is_real: `(B, T)` bool, on the CPU; tokens that are written, all but the padding.
            device: Of the model.
        """
        self.width = int(positions.max()) + 1
        rows, places = is_real.nonzero(as_tuple=True)
        index = torch.tensor(slots)
        # Slots that are the first ones are read where they stand.
        is_first = list(slots) == list(range(len(slots)))
        self.read_slots = slice(len(slots)) if is_first else index.to(device)
        self.sources = rows.to(device), places.to(device)
        self.targets = index[rows].to(device), positions[rows, places].to(device)

    def move(self, source: int, target: int, columns: int) -> None:
        """Copy the first columns of a slot into another one."""
        for layer in self.layers:
            layer.keys[target, :, :columns] = layer.keys[source, :, :columns]
            layer.values[target, :, :columns] = layer.values[source, :, :columns]

    def copied(self, slot: int, start: int, end: int) -> States:
        """Return a copy of some columns of a slot."""
        return [
            (layer.keys[slot, :, start:end].clone(), layer.values[slot, :, start:end].clone())
            for layer in self.layers
        ]

    def write(self, slot: int, pieces: Sequence[States]) -> None:
        """Write a slot from its first column on."""
        start = 0
        for states in pieces:
            for layer, (keys, values) in zip(self.layers, states, strict=True):
                if not layer.is_initialized:
                    layer.lazy_initialization(keys[None], values[None])
                layer.keys[slot, :, start : start + keys.shape[1]] = keys
                layer.values[slot, :, start : start + keys.shape[1]] = values
            start += states[0][0].shape[1]


class _SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    """Keys and values of one layer, each `(slots, heads, columns, head size)`."""

    is_sliding = False

    def __init__(self, cache: SlotCache) -> None:
        super().__init__()
        self.cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate what was reserved, now that heads, sizes and types are known."""
        slots, columns = self.cache.slots, self.cache.columns
        _, heads, _, size = key_states.shape
        self.keys = key_states.new_zeros((slots, heads, columns, size))
        self.values = value_states.new_zeros((slots, heads, columns, value_states.shape[-1]))
        self.is_initialized = True

    def grow(self, slots: int, columns: int) -> None:
        """Make room. Zeros, because what a mask hides is still multiplied: by zero, which makes no number of NaN."""
        if self.is_initialized:
            self.keys, self.values = _grown(self.keys, slots, columns), _grown(self.values, slots, columns)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write what the pass brings and return all that it may attend to."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        (rows, places), (slots, columns) = self.cache.sources, self.cache.targets
        self.keys[slots, :, columns] = key_states[rows, :, places]
        self.values[slots, :, columns] = value_states[rows, :, places]
        read, width = self.cache.read_slots, self.cache.width
        return self.keys[read, :, :width], self.values[read, :, :width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the number of columns read and the first of them; the engine brings its own masks."""
        return self.cache.width, 0

    def get_seq_length(self) -> int:
        """Return 0: every row has its own length, and the engine passes its own positions."""
        return 0

    def get_max_length(self) -> int:
        """Return -1: room is made as it is needed."""
        return -1


def attention_windows(model: PreTrainedModel) -> dict[str, int | None]:
    """Return how many tokens back a layer attends to, itself included (None: to all), by its type.

    Raises:
        ModelError: The slot cache does not fit the model.
    """
    config = model.config
    if config._attn_implementation not in ("sdpa", "eager"):
        raise ModelError(
            f"the model was loaded with attn_implementation={config._attn_implementation!r}; the local engine needs "
            f"'sdpa' or 'eager'"
        )
    window = getattr(config, "sliding_window", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    strange = kinds - {FULL, SLIDING}
    if getattr(config, "num_kv_shared_layers", 0):
        strange.add("shared keys and values")
    if strange:
        raise ModelError(
            f"{type(model).__name__} has layers of {', '.join(sorted(strange))}, which the local engine does not "
            f"sample from; serve the model (vLLM, say) and use a chat model over its API"
        )
    if not kinds:  # all layers are alike; Mistral's have a window
        return {FULL: window}
    return {kind: window if kind == SLIDING else None for kind in kinds}


def _grown(tensor: torch.Tensor, slots: int, columns: int) -> torch.Tensor:
    old_slots, heads, old_columns, size = tensor.shape
    grown = tensor.new_zeros((slots, heads, columns, size))
    grown[:old_slots, :, :old_columns] = tensor
    return grown
