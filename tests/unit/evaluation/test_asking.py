"""Which agent an evaluation opens, and with what limits."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.backends import TableBackend
from fakes.chat_models import ScriptedChatModel

from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.recipe import load_recipe
from masksearch_agent.errors import AgentError, EvaluationError
from masksearch_agent.evaluation.asking import AgentChoice, open_agent


@pytest.fixture(autouse=True)
def bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    def restore(*_: Any, **__: Any) -> MaskSearchAgent:
        settings = AgentSettings(search_first=True, max_searches=4, max_queries=2)
        return MaskSearchAgent(ScriptedChatModel(script=["x"]), TableBackend({}), settings, COMPACT_PROMPTS)

    monkeypatch.setattr(MaskSearchAgent, "from_pretrained", restore)


def test_limits_of_the_recipe_change_those_of_the_bundle_and_no_others() -> None:
    agent, _ = open_agent(AgentChoice("bundle"), load_recipe(None, ["agent.max_searches=1"]))
    assert isinstance(agent, MaskSearchAgent)
    assert (agent.settings.max_searches, agent.settings.max_queries) == (1, 2)
    agent, _ = open_agent(AgentChoice("bundle"), load_recipe())
    assert isinstance(agent, MaskSearchAgent)
    assert agent.settings.max_searches == 4


def test_limits_that_the_bundle_cannot_have_are_refused_in_words() -> None:
    with pytest.raises(
        AgentError, match="limits that were set: search_first takes a search, but max_searches is 0"
    ):
        open_agent(AgentChoice("bundle"), load_recipe(None, ["agent.max_searches=0"]))


def test_a_deployed_agent_is_not_given_limits_that_it_would_not_hear_of() -> None:
    recipe = load_recipe(None, ["agent.max_searches=1", "agent.max_queries=1"])
    with pytest.raises(EvaluationError, match=r"leave out agent\.max_searches, agent\.max_queries"):
        open_agent(AgentChoice("http://127.0.0.1:1"), recipe)
