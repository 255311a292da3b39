"""Keys and values of what was read, kept so that a longer prompt is read from where it goes on.

A radix tree over token ids: a node holds the tokens that its branch adds, so what many sequences begin with is held
once. They are right as long as the model computes what it did: `ModelMark` says whether it still does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ("ModelMark", "PrefixStore", "States", "shared_length")

States = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of consecutive tokens, a pair a layer, each `(heads, tokens, head size)`."""

_PROBE_TOKENS = 8


@dataclass(slots=True, eq=False)
class _Node:
    ids: tuple[int, ...]
    states: States
    parent: _Node | None
    children: dict[int, _Node] = field(default_factory=dict)
    """By their first token."""

    @property
    def size_bytes(self) -> int:
        return sum(tensor.nbytes for pair in self.states for tensor in pair)


class PrefixStore:
    """Keeps sequences up to a limit; those that were not asked for longest go first.

    Args:
        limit_bytes: Of keys and values; 0 keeps nothing.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.size_bytes = 0
        self._root = _Node((), [], None)
        self._by_use: OrderedDict[_Node, None] = OrderedDict()
        """Last used last. A node is noted after its children, so the first one never has any."""

    def find(self, ids: Sequence[int]) -> tuple[int, list[States]]:
        """Return how many of the first ids are kept, and their keys and values in pieces; read them before adding."""
        path, length = self._walk(ids)
        self._note_use(path)
        surplus = sum(len(node.ids) for node in path) - length
        pieces = [node.states for node in path]
        if surplus:
            pieces[-1] = _cut(pieces[-1], 0, len(path[-1].ids) - surplus)
        return length, pieces

    def add(self, ids: Sequence[int], read: Callable[[int, int], States]) -> None:
        """Keep a sequence; `read` returns a copy of the keys and values from one of its tokens up to another."""
        if not self.limit_bytes:
            return
        path, length = self._walk(ids)
        surplus = sum(len(node.ids) for node in path) - length
        if surplus and length < len(ids):
            path[-1] = self._split(path[-1], len(path[-1].ids) - surplus)
        if length < len(ids):
            parent = path[-1] if path else self._root
            node = _Node(tuple(ids[length:]), read(length, len(ids)), parent)
            if node.size_bytes > self.limit_bytes:
                return  # It would drive all others out, and then go itself.
            parent.children[ids[length]] = node
            self.size_bytes += node.size_bytes
            path.append(node)
        self._note_use(path)
        while self.size_bytes > self.limit_bytes:
            self._evict()

    def clear(self) -> None:
        """Let go of everything at once, where nodes that know each other in circles would wait for the collector."""
        for node in self._by_use:
            # Whoever has found states holds the list of them, which stays.
            node.states, node.parent = [], None
            node.children.clear()
        self._root.children.clear()
        self._by_use.clear()
        self.size_bytes = 0

    def _walk(self, ids: Sequence[int]) -> tuple[list[_Node], int]:
        """Return the nodes that hold the first ids, and how many they are; the last node may hold more."""
        path: list[_Node] = []
        node, length = self._root, 0
        while length < len(ids) and (child := node.children.get(ids[length])) is not None:
            shared = shared_length(child.ids, ids[length : length + len(child.ids)])
            path.append(child)
            length += shared
            if shared < len(child.ids):
                break
            node = child
        return path, length

    def _note_use(self, path: Sequence[_Node]) -> None:
        for node in reversed(path):
            self._by_use[node] = None
            self._by_use.move_to_end(node)

    def _split(self, node: _Node, place: int) -> _Node:
        """Give the first tokens of a node to one above it, and return that. Copies: a view would hold all of it."""
        assert node.parent is not None
        upper = _Node(node.ids[:place], _copied(_cut(node.states, 0, place)), node.parent)
        node.parent.children[node.ids[0]] = upper
        node.states = _copied(_cut(node.states, place, len(node.ids)))
        node.ids, node.parent = node.ids[place:], upper
        upper.children[node.ids[0]] = node
        return upper

    def _evict(self) -> None:
        node, _ = self._by_use.popitem(last=False)
        assert node.parent is not None
        del node.parent.children[node.ids[0]]
        self.size_bytes -= node.size_bytes


class ModelMark:
    """What tells whether a model still computes what it did: its parameters, and what it says to a few tokens.

    Changes in place raise a parameter's version, others its address. Some are seen in neither (`.data`, an adapter that
    is merged, disabled or exchanged), but in the logits. A write through `.data` to an embedding that the probe does
    not read is not seen: call `BatchingEngine.forget` after it. Costs a forward pass of some tokens.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.parameters = tuple(
            (parameter.data_ptr(), 0 if parameter.is_inference() else parameter._version)
            for parameter in model.parameters()
        )
        probe = torch.arange(_PROBE_TOKENS, device=model.device).unsqueeze(0)
        self.logits = model(input_ids=probe, use_cache=False, logits_to_keep=1).logits

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ModelMark)
            and self.parameters == other.parameters
            and self.logits.device == other.logits.device
            and torch.equal(self.logits, other.logits)
        )

    __hash__ = None  # type: ignore[assignment]


def shared_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two sequences of the same type begin with in common."""
    limit = min(len(one), len(other))
    if one[:limit] == other[:limit]:
        return limit
    return next(place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)


def _cut(states: States, start: int, end: int) -> States:
    return [(keys[:, start:end], values[:, start:end]) for keys, values in states]


def _copied(states: States) -> States:
    return [(keys.clone(), values.clone()) for keys, values in states]
