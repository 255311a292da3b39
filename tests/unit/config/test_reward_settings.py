from __future__ import annotations

import pytest
from pydantic import ValidationError

from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.errors import ConfigError


def test_a_cache_longer_than_the_maximum_is_refused() -> None:
    with pytest.raises(
        ValidationError, match=r"overlong_cache_tokens \(256\) exceeds overlong_max_tokens \(100\)"
    ):
        RewardSettings(overlong_max_tokens=100)


def test_unknown_answer_reward_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="no reward called 'rouge'; expected one of exact_match, judge, recall,"
    ):
        RewardSettings.model_validate({"answer": "rouge"})


def test_a_judge_has_to_be_named() -> None:
    with pytest.raises(ValidationError, match="answer is 'judge' but no judge is named"):
        RewardSettings(answer="judge")
