"""Token recall, less where an answer is longer than gold, so that listing candidates does not pay."""

from __future__ import annotations

from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.rewards.answers import AnswerReward
from masksearch_agent.text.matching import answer_slots, token_recall, tokenize_answer

__all__ = ("REWARD", "recall_with_length_penalty")


def recall_with_length_penalty(task: SearchTask, trajectory: Trajectory) -> float:
    """Return the penalised recall.

    For a slot with prediction p and accepted answers g (lengths in tokens), averaged over the slots:

        max_g recall(p, g) · min(1, |g| / |p|)

    Up to the gold length this is recall. Beyond it, it is precision: the penalty that MaskSearch (arXiv 2505.20285)
    found necessary, in a form without a knob.
    """
    slots = answer_slots(task, trajectory.answer)
    return sum(max(_penalised_recall(part, gold) for gold in golds) for part, golds in slots) / len(slots)


def REWARD(settings: RewardSettings) -> AnswerReward:
    """Return the reward."""
    return recall_with_length_penalty


def _penalised_recall(prediction: str, gold: str) -> float:
    said, expected = len(tokenize_answer(prediction)), len(tokenize_answer(gold))
    recall = token_recall(prediction, (gold,))
    return recall * expected / said if said > expected else recall
