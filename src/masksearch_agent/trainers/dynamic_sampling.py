"""Dynamic sampling (DAPO, arXiv 2503.14476, section 3.2): only groups that teach something reach the batch.

Groups whose rewards are all equal, or that could not be scored, are replaced by fresh groups of the same curriculum
stream until the batch is full or as many groups were rolled out as `max_batches` batches have. Only so many are drawn
as are likely to fill it, those that are likely to be of use before others (`prospects`). All ranks decide alike,
because each of them knows what became of every group; and the batch does not depend on how many ranks there are.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import get_args

from masksearch_agent.errors import TrainingError
from masksearch_agent.rewards.mix import Reward
from masksearch_agent.trainers.curriculum import Curriculum
from masksearch_agent.trainers.ranks import Ranks
from masksearch_agent.trainers.rollouts import Fate, Group, RolloutRunner

__all__ = ("DynamicSampler", "SampledBatch")

logger = logging.getLogger(__name__)

_MOST_AT_ONCE = 2
"""Times the batch to train on that is rolled out at once: what bounds memory where few groups are of use."""


@dataclass(frozen=True, slots=True)
class _RolloutNumbers:
    reward: Reward
    searches: int
    sampled_tokens: int
    rows: int


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a group, small enough to be told to every rank."""

    place: int
    """In the batch of rollouts."""
    index: int
    """Of the task."""
    mask_count: int
    fate: Fate
    failed: int
    first_failure: str
    rollouts: tuple[_RolloutNumbers, ...]


@dataclass(frozen=True, slots=True)
class SampledBatch:
    """The useful groups of a step, and what was rolled out to find them."""

    groups: tuple[Group, ...]
    """Those that this process rolled out."""
    metrics: dict[str, float]
    """Over all processes, and the same on each."""


class DynamicSampler:
    """Fills batches with useful groups.

    Args:
        curriculum: The stream that every task comes from; the same on all ranks.
        ranks: The processes that share the work.
        max_batches: Groups rolled out at most for one batch to train on, in batches of that size.
        is_dynamic: False rolls out one batch and keeps every group that could be scored.
    """

    def __init__(
        self,
        curriculum: Curriculum,
        runner: RolloutRunner,
        ranks: Ranks,
        max_batches: int,
        seed: int,
        is_dynamic: bool = True,
    ) -> None:
        self.curriculum = curriculum
        self.runner = runner
        self.ranks = ranks
        self.max_batches = max_batches if is_dynamic else 1
        self.seed = seed
        self.is_dynamic = is_dynamic

    def sample(self, count: int, step: int) -> SampledBatch:
        """Roll out until there are `count` useful groups of all processes together, or the cap is reached.

        Raises:
            TrainingError: Not one rollout of the first batch could be scored.
        """
        self.curriculum.begin_step(step)
        sampled: list[_Outcome] = []
        kept: list[_Outcome] = []
        mine: list[Group] = []
        batches = 0
        while len(kept) < count and len(sampled) < self.max_batches * count:
            batches += 1
            missing = count - len(kept)
            limit = min(_MOST_AT_ONCE * count, self.max_batches * count - len(sampled))
            drawn = self._draw(missing, limit)
            groups, outcomes = self._roll_out(drawn, step, batches)
            sampled += outcomes
            for outcome in outcomes:
                self.curriculum.prospects.observe(outcome.index, outcome.fate)
            _require_rollouts(sampled)
            chosen = [outcome for outcome in outcomes if self._is_kept(outcome)][:missing]
            kept += chosen
            mine += [groups[outcome.place] for outcome in chosen if outcome.place in groups]
        if self.is_dynamic and len(kept) < count:
            logger.info(
                "step %d: %d of %d groups are useful after %d were rolled out (max_resampling); the others: %s",
                step, len(kept), count, len(sampled), _describe_waste(sampled),
            )  # fmt: skip
        for outcome in sampled:
            if outcome.rollouts:
                right = [numbers.reward.answer >= 1 for numbers in outcome.rollouts]
                self.curriculum.observe(outcome.mask_count, sum(right) / len(right))
        metrics = {**self._metrics(sampled, kept), "dapo/rollout_batches": float(batches)}
        metrics["dapo/groups_missing"] = float(count - len(kept))
        return SampledBatch(tuple(mine), metrics)

    def _draw(self, missing: int, limit: int) -> list[int]:
        """Return the next tasks: as many as let so many useful groups be expected, up to a limit."""
        if not self.is_dynamic:
            return self.curriculum.draw(missing)
        drawn: list[int] = []
        expected = 0.0
        # A sum of likelihoods is not exact.
        while len(drawn) < limit and expected < missing - 1e-9:
            index = self.curriculum.draw_hopeful()
            drawn.append(index)
            expected += self.curriculum.prospects.likelihood(index)
        return drawn

    def _is_kept(self, outcome: _Outcome) -> bool:
        return outcome.fate == "useful" or not (self.is_dynamic or outcome.fate == "unscorable")

    def _roll_out(
        self, drawn: Sequence[int], step: int, batch: int
    ) -> tuple[dict[int, Group], list[_Outcome]]:
        """Roll out this rank's share, every `count`-th task; return its groups by place, and all ranks' outcomes."""
        places = range(self.ranks.index, len(drawn), self.ranks.count)
        tasks = [self.curriculum.tasks[drawn[place]] for place in places]
        # Another one for each run, step and batch, whatever the number of ranks.
        seed = self.seed * 1_000_000_000 + step * 1_000 + batch
        groups = dict(zip(places, self.runner.run(tasks, seed, places), strict=True))
        outcomes = self.ranks.gather(
            [_outcome(place, drawn[place], group) for place, group in groups.items()]
        )
        return groups, sorted(outcomes, key=lambda outcome: outcome.place)

    def _metrics(self, sampled: Sequence[_Outcome], kept: Sequence[_Outcome]) -> dict[str, float]:
        rollouts = [numbers for outcome in sampled for numbers in outcome.rollouts]
        metrics = {
            **dict(_reward_means(sampled, "")),
            **dict(_reward_means(kept, "_after_filter")),
            "dapo/groups_sampled": len(sampled),
            **{f"dapo/groups_{fate}": count for fate, count in _fates(sampled).items()},
            "rollouts/failed": sum(outcome.failed for outcome in sampled),
            "rollouts/searches": _mean([numbers.searches for numbers in rollouts]),
            "rollouts/sampled_tokens": _mean([numbers.sampled_tokens for numbers in rollouts]),
            "traces/forked_rows": sum(max(0, numbers.rows - 1) for numbers in rollouts),
        }
        for name in ("max_masks", "success_rate"):
            if (value := getattr(self.curriculum, name)) is not None:
                metrics[f"curriculum/{name}"] = value
        return metrics


def _outcome(place: int, index: int, group: Group) -> _Outcome:
    numbers = tuple(
        _RolloutNumbers(
            one.reward, len(one.trajectory.queries), sum(r.trainable_count for r in one.rows), len(one.rows)
        )
        for one in group.rollouts
    )
    return _Outcome(
        place, index, group.task.mask_count, group.fate, group.failed, group.first_failure, numbers
    )


def _require_rollouts(sampled: Sequence[_Outcome]) -> None:
    if not any(outcome.rollouts for outcome in sampled):
        raise TrainingError(
            f"all {sum(outcome.failed for outcome in sampled)} rollouts failed; the first with: "
            f"{next((outcome.first_failure for outcome in sampled), '')}"
        )


def _reward_means(outcomes: Sequence[_Outcome], suffix: str) -> Iterator[tuple[str, float]]:
    rewards = [numbers.reward for outcome in outcomes for numbers in outcome.rollouts]
    for part in ("format", "answer", "length", "total"):
        yield f"rewards/{part}{suffix}", _mean([getattr(reward, part) for reward in rewards])


def _fates(sampled: Sequence[_Outcome]) -> dict[str, int]:
    counts = Counter[str](outcome.fate for outcome in sampled)
    return {fate: counts[fate] for fate in get_args(Fate)}


def _describe_waste(sampled: Sequence[_Outcome]) -> str:
    wasted = ((fate, count) for fate, count in _fates(sampled).items() if count and fate != "useful")
    return ", ".join(f"{count} {fate.replace('_', ' ')}" for fate, count in wasted)


def _mean(values: Sequence[float]) -> float:
    """Return the mean; not a number, which TRL leaves out of its log, where there is nothing."""
    return sum(values) / len(values) if values else float("nan")
