"""A share of RAMP beside the questions of Stage II, so that the skill of Stage I is not unlearned.

Rehearsal: what a small model is trained on last is what it can do. The questions are all kept, and as much RAMP is
drawn as makes its share of the whole: a share of trajectories in SFT, of tasks in DAPO, and not of their tokens.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from masksearch_agent.errors import TrainingError
from masksearch_agent.records import SearchTask, Trajectory, content_id

__all__ = ("counts_of_mix", "mix_in", "order_key")

_ItemT = TypeVar("_ItemT", SearchTask, Trajectory)


def mix_in(own: Sequence[_ItemT], ramp: Sequence[_ItemT], share: float, seed: int) -> list[_ItemT]:
    """Return all of `own`, in a fixed order, with as much of `ramp` behind it as makes `share` of the whole.

    What is drawn depends on `order_key` and seed alone, so that a stopped run that starts again draws the same. Where
    there is less RAMP than its share asks for, it is gone through several times.

    Args:
        own: What the stage is about.
        ramp: What its share is drawn from; not read where `share` is 0.
        share: From 0 up to, but without, 1.
        seed: Of the draw.

    Raises:
        TrainingError: There is nothing to draw from.
    """
    # A store returns trajectories in the order in which they were finished, which is another one each time.
    mixed = sorted(own, key=order_key)
    wanted = round(len(mixed) * share / (1 - share))
    if wanted and not ramp:
        raise TrainingError(
            f"ramp_share is {share:g}, but there is no RAMP to mix in: {len(mixed)} of the stage's own and 0 of RAMP; "
            f"pass some (`--ramp-traces`, `--ramp-tasks`), or set ramp_share to 0"
        )
    draw = random.Random(f"mix:{seed}")
    pool = sorted(ramp, key=order_key) if wanted else []
    while wanted > 0:
        drawn = draw.sample(pool, min(wanted, len(pool)))
        mixed += drawn
        wanted -= len(drawn)
    return mixed


def order_key(item: SearchTask | Trajectory) -> tuple[str, str]:
    """Return what things to train on are sorted by before a draw.

    Of a trajectory that is its task, maker and seed, so that runs whose trajectories differ in what they say draw the
    same tasks.
    """
    if isinstance(item, SearchTask):
        return item.id, ""
    return content_id(item.task_id, item.producer, item.seed, item.protocol_version), item.id


def counts_of_mix(own: Sequence[_ItemT], mixed: Sequence[_ItemT]) -> dict[str, int]:
    """Return how many of each kind a stage trains on, for its report; empty where nothing was mixed in."""
    drawn = len(mixed) - len(own)
    return {"own": len(own), "ramp": drawn} if drawn else {}
