"""Worked examples: what a run opens with, and that nothing of it is trained on."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

import pytest
from fakes.backends import TableBackend
from fakes.chat_models import ScriptedChatModel, ScriptedRecordingModel
from fakes.tiny_models import make_test_model
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from masksearch_agent.agent.bundle import BundleInfo
from masksearch_agent.agent.examples import MASK_EXAMPLES, QUESTION_EXAMPLES, WorkedExample
from masksearch_agent.agent.opening import opening_messages
from masksearch_agent.agent.prompts import (
    COMPACT_PROMPTS,
    FULL_PROMPTS,
    PromptSet,
    add_examples,
    choose_prompts,
)
from masksearch_agent.agent.protocol import AnswerStep, SearchStep, parse_step
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.agent import AgentSettings, AnswerForm
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.errors import AgentError
from masksearch_agent.evaluation.runner import evaluate
from masksearch_agent.models.local import LocalChatModel
from masksearch_agent.records import Passage, SearchTask
from masksearch_agent.retrieval.search import Search
from masksearch_agent.stages.plan import prompts_of
from masksearch_agent.text.fills import split_fills
from masksearch_agent.traces.rows import make_rows

FEW_SHOT = choose_prompts("few_shot")
MILL = Passage("mill", "Mill", "Ada built the mill.")
SEARCH = "<think>who?</think><search>mill</search>"
ANSWER = "<think>there</think><answer>Ada</answer>"
TASK = SearchTask("q", "qa", "Who built the mill?", (("Ada",),))


def make_agent(model: Any, prompts: PromptSet = FEW_SHOT, **parts: Any) -> MaskSearchAgent:
    table = {"mill": [MILL], TASK.question: [MILL]}
    return MaskSearchAgent(model, Search(TableBackend(table)), prompts=prompts, **parts)


@pytest.mark.parametrize("kind", ["qa", "ramp"])
def test_a_run_opens_with_whole_runs_in_the_protocol(kind: str) -> None:
    system, *shown, question = opening_messages("Who?", kind, FEW_SHOT)
    assert (system.type, question.content) == ("system", "Who?")
    assert [message.type for message in shown] == ["human", "ai"] * (len(shown) // 2)
    steps = [parse_step(str(message.content), 3) for message in shown if isinstance(message, AIMessage)]
    assert all(isinstance(step, SearchStep | AnswerStep) for step in steps)
    ends = [index for index, step in enumerate(steps) if isinstance(step, AnswerStep)]
    assert len(ends) == len(FEW_SHOT.examples_for(kind))
    for before, message in pairwise(shown):
        if isinstance(message, HumanMessage):
            follows_search = isinstance(parse_step(str(before.content), 3), SearchStep)
            assert str(message.content).startswith("<information>") == follows_search


def test_one_example_takes_two_searches_and_one_is_answered_with_yes_or_no() -> None:
    assert 2 in [len(example.searches) for example in QUESTION_EXAMPLES]
    assert {example.answer for example in QUESTION_EXAMPLES} & {"yes", "no"}


@pytest.mark.parametrize("answer_form", get_args(AnswerForm))
def test_the_masks_of_an_example_are_filled_in_the_form_that_is_asked_for(answer_form: AnswerForm) -> None:
    for example, bare in zip(
        choose_prompts("few_shot", answer_form).mask_examples, MASK_EXAMPLES, strict=True
    ):
        fills = bare.answer.split("\n")
        task = SearchTask("m", "ramp", example.question, tuple((fill,) for fill in fills))
        assert split_fills(task, example.answer) == tuple(fills)
        assert (example.answer == bare.answer) == (answer_form == "bare_fills")


def test_a_recipe_and_a_bundle_name_and_keep_them() -> None:
    assert prompts_of(Recipe(prompts="few_shot")) == FEW_SHOT
    info = BundleInfo(protocol_version=2, prompts=FEW_SHOT, agent=AgentSettings(), model_version="v")
    assert BundleInfo.model_validate_json(info.model_dump_json()).prompts == FEW_SHOT
    earlier = FULL_PROMPTS.model_dump(exclude={"question_examples", "mask_examples"})
    assert PromptSet.model_validate(earlier) == FULL_PROMPTS


def test_prompts_keep_examples_of_their_own_and_compact_ones_get_none() -> None:
    own = WorkedExample(question="Who?", searches=(), think="", answer="Ada")
    mine = FULL_PROMPTS.model_copy(update={"question_examples": (own,)})
    assert add_examples(mine) == mine
    assert add_examples(COMPACT_PROMPTS) == COMPACT_PROMPTS
    assert add_examples(FULL_PROMPTS) == FEW_SHOT


def test_examples_are_context_and_are_not_trained_on(tiny_tokenizer: Any) -> None:
    tiny = make_test_model(tiny_tokenizer, max_positions=8192)
    settings = AgentSettings(max_step_tokens=6, max_repairs=1)
    model = LocalChatModel(model=tiny, tokenizer=tiny_tokenizer)
    agent = make_agent(model, settings=settings)
    [result] = evaluate(agent, [TASK])
    agent.close()
    assert result.trajectory is not None
    first, *_ = result.trajectory.turns
    opening = opening_messages(TASK.question, "qa", FEW_SHOT)
    assert [message.content for message in first.context] == [message.content for message in opening]
    [row] = make_rows(result.trajectory)
    assert row.prompt_length == len(first.context_ids)
    assert row.trainable_count == sum(len(turn.sampled_ids) for turn in result.trajectory.turns)


def test_a_conversation_that_goes_on_is_shown_the_examples_once() -> None:
    model = ScriptedChatModel(script=[ANSWER])
    agent = make_agent(model, checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "t"}}
    agent.invoke([HumanMessage("Who built the mill?")], thread)
    agent.invoke([HumanMessage("And when?")], thread)
    first, second = ([message.content for message in call] for call in model.calls)
    assert second == [*first, ANSWER, "And when?"]


def test_the_retrieve_once_baseline_is_shown_examples_of_its_own_form() -> None:
    model = ScriptedRecordingModel(script=[ANSWER])
    [result] = evaluate(make_agent(model), [TASK], mode="rag")
    assert result.recall == 1
    _, *shown, asked = model.calls[0]
    assert [message.type for message in shown] == ["human", "ai"] * len(QUESTION_EXAMPLES)
    for message in (*shown[::2], asked):
        assert "<information>" in str(message.content)
        assert str(message.content).endswith(FEW_SHOT.force_answer)
    assert all("<answer>" in str(message.content) for message in shown[1::2])


def test_the_tools_dialect_refuses_examples_in_tags() -> None:
    with pytest.raises(AgentError, match="worked examples in tags"):
        make_agent(ScriptedChatModel(script=[ANSWER]), settings=AgentSettings(dialect="tools"))


def test_the_brief_prompts_of_a_small_model_are_short_and_its_untrained_self_sees_examples() -> None:
    brief = choose_prompts("brief", "bare_fills")
    assert len(brief.question_system.split()) < 0.4 * len(FULL_PROMPTS.question_system.split())
    assert "numbered" not in brief.masks_system
    assert "one line each" in brief.masks_system
    for tag in ("<think>", "<search>", "<answer>"):
        assert tag in brief.question_system
        assert tag in brief.masks_system
    assert not brief.has_examples
    assert add_examples(brief).question_examples == QUESTION_EXAMPLES
