"""A rollout that raises in the real graph is unscorable: out of its group, out of training, and no zero."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from fakes.chat_models import Reply, ScriptedRecordingModel
from fakes.passages import make_passages
from langchain_core.messages import BaseMessage

from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.errors import TrainingError
from masksearch_agent.records import Passage, Sampling, SearchTask
from masksearch_agent.rewards.mix import RewardMix
from masksearch_agent.trainers.curriculum import Curriculum
from masksearch_agent.trainers.dynamic_sampling import DynamicSampler
from masksearch_agent.trainers.ranks import Ranks
from masksearch_agent.trainers.rollouts import RolloutRunner

TASKS = [SearchTask(f"t{number}", "qa", f"Question {number}?", (("Ada",),)) for number in range(2)]
FIRST = Reply("<think>?</think><search>Harrow</search>", (1, 2), (10, 11))
RIGHT = Reply("<think>!</think><answer>Ada</answer>", (3, 4), (12, 13))
WRONG = Reply("<think>!</think><answer>Bram</answer>", (3, 4), (14,))


def make_runner(search: Callable[[str], list[Passage]], last: Callable[[int], Reply]) -> RolloutRunner:
    """Return a runner of groups of four; `last` gives the second reply of each run of all, by its number."""
    finished = 0

    def reply(messages: list[BaseMessage]) -> Reply:
        nonlocal finished
        if not messages[-1].text.startswith("<information>"):
            return FIRST
        finished += 1
        return last(finished - 1)

    agent = MaskSearchAgent(ScriptedRecordingModel(script=reply), search, prompts=COMPACT_PROMPTS)
    return RolloutRunner(agent, RewardMix(RewardSettings()), Sampling(temperature=1.0), group_size=4)


def find(query: str) -> list[Passage]:
    return make_passages("Ada founded Harrow")


def test_a_failing_model_takes_its_rollout_out_of_the_group(caplog: pytest.LogCaptureFixture):
    def last(number: int) -> Reply:
        if number == 1:
            raise ConnectionError("the model server is gone")
        return RIGHT if number % 2 == 0 else WRONG

    groups = make_runner(find, last).run(TASKS, seed=0)

    assert sorted(group.failed for group in groups) == [0, 1]
    assert sum(len(group.rollouts) for group in groups) == 7
    scores = sorted(rollout.reward.answer for group in groups for rollout in group.rollouts)
    assert scores == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0], "what failed is no zero"
    rows = sorted(row.input_ids for group in groups for rollout in group.rollouts for row in rollout.rows)
    assert rows == [(1, 2, 10, 11, 3, 4, 12, 13)] * 4 + [(1, 2, 10, 11, 3, 4, 14)] * 3
    [broken] = [group for group in groups if group.failed]
    assert sum(broken.advantages()) == pytest.approx(0.0), "the mean is that of the others"
    assert "failed: ConnectionError: the model server is gone" in caplog.text


def test_a_search_that_is_down_scores_nobody_and_stops_the_training(caplog: pytest.LogCaptureFixture):
    def search(query: str) -> Any:
        raise OSError("the index is gone")

    runner = make_runner(search, lambda number: RIGHT)
    alone = Ranks(0, 1, lambda items: items)
    sampler = DynamicSampler(Curriculum(TASKS, (), 1, seed=0), runner, alone, max_batches=4, seed=0)
    with (
        caplog.at_level(logging.CRITICAL),
        pytest.raises(TrainingError, match=r"all 8 rollouts failed; the first with: .*the index is gone"),
    ):
        sampler.sample(2, step=0)
