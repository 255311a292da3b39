"""The one way from traces to training rows, for SFT and for RL alike.

Each path from a root to a last policy turn is one row, because it is one sequence that the model saw. A turn
shared by several paths trains in the first of them only, so that every sampled token of the policy trains
exactly once; everything else (prompts, search results, repair messages, the turns of other roles) is context.

    context_ids  sampled_ids  context_ids            sampled_ids
    [ prompt   ] [ step 1   ] [ information … ]      [ step 2   ]
      0 0 0 0      1 1 1 1      0 0 0 0 0 0            1 1 1 1      trainable
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Protocol

from masksearch_agent.errors import TraceError
from masksearch_agent.records import Message, TrainingRow, Trajectory, Turn
from masksearch_agent.traces.recorder import path_to

__all__ = ("POLICY_ROLE", "TurnEncoder", "make_rows", "tokenise")

POLICY_ROLE = "policy"


class TurnEncoder(Protocol):
    """Renders text as the tokens a model reads; `models.chat_format.ChatFormat` is one."""

    def encode_context(self, messages: Sequence[Message], is_first: bool, is_closed: bool) -> list[int]:
        """Return the ids that the messages since the previous reply add, up to where the assistant's reply begins.

        They may be the first of the conversation; else the previous reply is closed where it ended with its
        end-of-turn token.
        """

    def encode_reply(self, text: str) -> list[int]:
        """Return the ids of a reply, its end-of-turn token included."""

    def decode_reply(self, ids: Sequence[int]) -> str:
        """Return a reply's text without its end-of-turn token."""


def make_rows(trajectory: Trajectory, encoder: TurnEncoder | None = None) -> list[TrainingRow]:
    """Turn a trajectory into training rows, one per path of its trace.

    The encoder tokenises turns that carry text only; without one these are refused. So it does with turns of the policy
    whose sampled ids it reads as another text: those are of another model's tokenizer. One such turn is enough for all
    rows of the trajectory to be made from text, without log-probabilities.

    Raises:
        TraceError: A policy turn, or one that it continues, has no token ids and no encoder was given; or the
            tree is broken.
    """
    turns = _turns_that_matter(trajectory.turns)
    missing = next((turn for turn in turns if not turn.is_tokenised), None)
    if missing is not None and encoder is None:
        raise TraceError(
            f"turn {missing.id!r} of trajectory {trajectory.id!r} has no token ids; record it with a "
            f"recording model, or pass the student's encoder to tokenise its text"
        )
    is_text = encoder is not None and (missing is not None or not _are_ids_of(turns, encoder))
    if encoder is not None and is_text:
        turns = tokenise(turns, encoder)
    trained: set[str] = set()
    return [
        _row_of_path(path, trained, trajectory.id, has_logprobs=not is_text) for path in _leaf_paths(turns)
    ]


def _are_ids_of(turns: Sequence[Turn], encoder: TurnEncoder) -> bool:
    """Whether the ids that the policy sampled are those of the encoder's tokenizer."""
    return all(
        encoder.decode_reply(turn.sampled_ids) == turn.text for turn in turns if turn.role == POLICY_ROLE
    )


def tokenise(turns: Iterable[Turn], encoder: TurnEncoder) -> tuple[Turn, ...]:
    """Return the turns with token ids made from their text; log-probabilities stay unknown (zero)."""
    encoded = []
    for turn in turns:
        is_first = turn.parent_id is None
        context = tuple(encoder.encode_context(turn.context, is_first, is_closed=not is_first))
        reply = tuple(encoder.encode_reply(turn.text))
        zeros = (0.0,) * len(reply)
        encoded.append(dataclasses.replace(turn, context_ids=context, sampled_ids=reply, logprobs=zeros))
    return tuple(encoded)


def _turns_that_matter(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """Return the policy's turns and those they continue; what follows them teaches nothing."""
    kept: set[str | None] = set()
    for turn in reversed(turns):
        if turn.role == POLICY_ROLE or turn.id in kept:
            kept |= {turn.id, turn.parent_id}
    return tuple(turn for turn in turns if turn.id in kept)


def _leaf_paths(turns: Sequence[Turn]) -> list[list[Turn]]:
    by_id = {turn.id: turn for turn in turns}
    parents = {turn.parent_id for turn in turns}
    return [path_to(leaf, by_id) for leaf in turns if leaf.id not in parents]


def _row_of_path(
    path: Sequence[Turn], trained: set[str], trajectory_id: str, has_logprobs: bool
) -> TrainingRow:
    """Build the row of a path, which ends with a policy turn, and mark its policy turns as trained."""
    ids: list[int] = []
    trainable: list[bool] = []
    logprobs: list[float] = []
    is_constrained = False
    for turn in path:
        trains = turn.role == POLICY_ROLE and turn.id not in trained
        if trains:
            trained.add(turn.id)
            is_constrained |= turn.is_constrained
        ids += [*turn.context_ids, *turn.sampled_ids]
        trainable += [False] * len(turn.context_ids) + [trains] * len(turn.sampled_ids)
        logprobs += [0.0] * len(turn.context_ids)
        logprobs += list(turn.logprobs) if trains else [0.0] * len(turn.sampled_ids)
    return TrainingRow(
        input_ids=tuple(ids),
        trainable=tuple(trainable),
        logprobs=tuple(logprobs) if has_logprobs else None,
        trajectory_id=trajectory_id,
        is_truncated=path[-1].finish_reason == "length",
        is_constrained=is_constrained,
    )
