from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fakes.chat_models import ScriptedChatModel

from masksearch_agent.calls.chat import ChatCaller
from masksearch_agent.config.calls import CallSettings
from masksearch_agent.config.judging import JudgeSettings
from masksearch_agent.config.rewards import RewardSettings
from masksearch_agent.errors import RewardError, ServiceRefusedError
from masksearch_agent.judging.judge import ModelJudge
from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.rewards.answers import judge as judge_reward
from masksearch_agent.rewards.answers.judge import reward_by
from masksearch_agent.rewards.mix import RewardMix

TASK = SearchTask(id="q", kind="qa", question="Who built it?", answers=(("Ann Bo", "A. Bo"),))
RIGHT = "<reason>The same person.</reason><verdict>right</verdict>"
WRONG = "<reason>Another one.</reason><verdict>wrong</verdict>"


def make_judge(*script: str, **fields: Any) -> tuple[ModelJudge, ScriptedChatModel]:
    model = ScriptedChatModel(script=script, **fields)
    calls = CallSettings(first_wait_s=0.001, patience_s=0.01)
    return ModelJudge(ChatCaller(model, "m", calls), max_repairs=2), model


def reward(judge: ModelJudge, answer: str = "the engineer Ann Bo") -> float:
    mix = RewardMix(RewardSettings(), reward_by(judge))
    return asyncio.run(mix.score(TASK, Trajectory("t-1", "q", (), answer, "answered"))).answer


@pytest.mark.parametrize(("reply", "expected"), [(RIGHT, 1.0), (WRONG, 0.0)])
def test_the_verdict_is_the_reward(reply: str, expected: float) -> None:
    assert reward(make_judge(reply)[0]) == expected


def test_an_empty_answer_is_wrong_without_asking() -> None:
    judge, model = make_judge(RIGHT)
    assert reward(judge, " \n") == 0.0
    assert model.calls == []


def test_a_judge_that_never_gives_a_verdict_leaves_the_rollout_unscorable() -> None:
    judge, model = make_judge("no idea")
    with pytest.raises(
        RewardError, match="no verdict on trajectory 't-1': judge reply malformed: there is no tag"
    ):
        reward(judge)
    assert len(model.calls) == 3


def test_a_judge_whose_server_is_gone_leaves_it_unscorable_too_and_tells_no_key() -> None:
    def fail(messages: Any) -> str:
        raise ConnectionError("no route for api_key=sk-verysecret123")

    model = ScriptedChatModel(script=fail)
    judge = ModelJudge(ChatCaller(model, "m", CallSettings(first_wait_s=0.001, patience_s=0.01)))
    with pytest.raises(RewardError, match="no verdict on trajectory 't-1': m keeps failing") as raised:
        reward(judge)
    assert "verysecret" not in str(raised.value)


def test_a_refused_key_is_no_matter_of_one_rollout() -> None:
    def refuse(_: Any) -> str:
        raise ServiceRefusedError("no such key")

    judge = ModelJudge(ChatCaller(ScriptedChatModel(script=refuse)))
    with pytest.raises(ServiceRefusedError):
        reward(judge)


def test_settings_name_the_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[JudgeSettings] = []

    def open_fake(settings: JudgeSettings) -> ModelJudge:
        named.append(settings)
        return make_judge(RIGHT)[0]

    monkeypatch.setattr(judge_reward, "open_judge", open_fake)
    settings = RewardSettings(answer="judge", judge=JudgeSettings(model="openai:m"), answer_weight=2.0)
    trajectory = Trajectory("t-1", "q", (), "Ann", "answered")
    assert asyncio.run(RewardMix(settings).score(TASK, trajectory)).total == pytest.approx(0.1 + 2.0)
    assert named == [settings.judge]
