from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.backends import TableBackend
from fakes.chat_models import ScriptedChatModel

from masksearch_agent.agent.bundle import BundleInfo
from masksearch_agent.agent.prompts import COMPACT_PROMPTS, FULL_PROMPTS, PromptSet, add_examples
from masksearch_agent.agent.protocol import PROTOCOL_VERSION
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.baselines import baseline_of
from masksearch_agent.models.local import LocalChatModel
from masksearch_agent.retrieval.search import Search


def make_agent(prompts: PromptSet = COMPACT_PROMPTS, **provenance: Any) -> MaskSearchAgent:
    settings = AgentSettings(max_step_tokens=17, answer_form="bare_fills")
    agent = MaskSearchAgent(
        ScriptedChatModel(script=["trained"]), Search(TableBackend({})), settings, prompts
    )
    agent.bundle = BundleInfo(
        protocol_version=PROTOCOL_VERSION,
        prompts=prompts,
        agent=settings,
        model_version="v",
        provenance=provenance,
    )
    return agent


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path | str, dict[str, Any]]]:
    """Keep what is loaded instead of loading it."""
    calls: list[tuple[Path | str, dict[str, Any]]] = []

    def load(path: Path | str, **settings: Any) -> ScriptedChatModel:
        calls.append((path, settings))
        return ScriptedChatModel(script=["untrained"])

    monkeypatch.setattr(LocalChatModel, "from_pretrained", load)
    return calls


def test_a_baseline_differs_from_the_agent_in_its_model_only(loaded: list[Any]) -> None:
    agent = make_agent(base_model="tiny")
    baseline = baseline_of(agent)
    assert loaded == [("tiny", {"max_tokens": 17, "model_version": "tiny (untrained)"})]
    assert baseline.model is not agent.model
    assert (baseline.search, baseline.settings, baseline.prompts) == (
        agent.search,
        agent.settings,
        agent.prompts,
    )


def test_an_untrained_model_is_shown_worked_examples(loaded: list[Any]) -> None:
    baseline = baseline_of(make_agent(FULL_PROMPTS, base_model="models/smollm2"))
    assert baseline.prompts == add_examples(FULL_PROMPTS, "bare_fills") != FULL_PROMPTS
    assert loaded[0][1]["model_version"] == "models/smollm2 (untrained, few-shot)"


def test_the_base_model_can_be_named(loaded: list[Any]) -> None:
    baseline_of(make_agent(base_model="gone"), "models/smollm2")
    assert loaded[0][0] == "models/smollm2"


def test_an_agent_that_was_not_trained_here_is_its_own_baseline() -> None:
    agent = make_agent()
    agent.bundle = None
    assert baseline_of(agent) is agent


def test_a_bundle_that_does_not_say_what_it_was_trained_from_is_refused() -> None:
    with pytest.raises(EvaluationError, match="--base-model"):
        baseline_of(make_agent())
