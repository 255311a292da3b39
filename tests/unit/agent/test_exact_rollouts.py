"""What a graph does to a run (retries, fan-out, judges, limits, checkpoints), the training rows stay exact.

Ids are written by hand: contexts below 10, sampled tokens from 10 on.
"""

from __future__ import annotations

import asyncio
import logging
import operator
from collections.abc import Sequence
from typing import Annotated, Any, TypedDict

import pytest
from fakes.chat_models import Reply, ScriptedRecordingModel
from fakes.retrievers import DictRetriever
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AnyMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatResult
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import RetryPolicy, Send

from masksearch_agent.agent import work
from masksearch_agent.agent.context import RunContext
from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import AgentError, ThreadReuseError
from masksearch_agent.jsonl import dump_record, load_record
from masksearch_agent.records import SearchTask, TrainingRow, Trajectory, Turn
from masksearch_agent.traces.recorder import CallRecording, Recorder
from masksearch_agent.traces.rows import make_rows

SEARCH = "<think>who?</think><search>founder of Harrow</search>"
ANSWER = "<think>found</think><answer>Ada</answer>"
PASSAGES = {"founder of Harrow": ["Harrow: Ada founded Harrow."]}
THREAD: RunnableConfig = {"configurable": {"thread_id": "t"}}

FIRST = Reply(SEARCH, (1, 2, 3), (10, 11), (-0.10, -0.11))
SECOND = Reply(ANSWER, (4, 5), (12, 13, 14), (-0.12, -0.13, -0.14))


def make_agent(
    script: Any, checkpointer: Any = None, model: BaseChatModel | None = None, **limits: Any
) -> MaskSearchAgent:
    return MaskSearchAgent(
        model or ScriptedRecordingModel(script=script),
        DictRetriever(entries=PASSAGES),
        AgentSettings(**limits),
        COMPACT_PROMPTS,
        checkpointer,
    )


def rows_of(turns: Sequence[Turn]) -> list[TrainingRow]:
    return make_rows(Trajectory("run", "task", tuple(turns), answer="", stop_reason="answered"))


def shape(rows: Sequence[TrainingRow]) -> list[tuple[tuple[int, ...], list[int]]]:
    return [(row.input_ids, [int(flag) for flag in row.trainable]) for row in rows]


ONE_ROW = [((1, 2, 3, 10, 11, 4, 5, 12, 13, 14), [0, 0, 0, 1, 1, 0, 0, 1, 1, 1])]


# --- retries -----------------------------------------------------------------------------------------------


class LosesReplies(ScriptedRecordingModel):
    """Fails with the reply in its hands: the call is recorded, and the node has to make it again."""

    lost_call: int

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        number = len(self.calls)
        result = super()._generate(*args, **kwargs)
        if number == self.lost_call:
            raise ConnectionError("the line went dead")
        return result


def run_with_retries(agent: MaskSearchAgent) -> tuple[dict[str, Any], Recorder]:
    policy = RetryPolicy(max_attempts=2, initial_interval=0.0, jitter=False)
    graph = agent.builder.set_node_defaults(retry_policy=policy).compile()
    recorder = Recorder()
    state = graph.invoke({"question": "Who?"}, context=RunContext(recorder=recorder))
    return dict(state), recorder


def test_a_retry_after_a_call_that_failed_leaves_no_trace():
    model = ScriptedRecordingModel(script=[FIRST, FIRST, SECOND], fail_on=1)
    state, recorder = run_with_retries(make_agent(None, model=model))
    assert (state["answer"], len(model.calls)) == ("Ada", 3)
    assert shape(rows_of(recorder.turns)) == ONE_ROW


def test_a_retry_after_a_reply_that_was_lost_gives_it_a_row_of_its_own():
    #            .-> lost   [4 5 | 20 21]
    # [1 2 3 | 10 11]
    #            '-> second [4 5 | 12 13 14]
    lost = Reply("<think>no", (4, 5), (20, 21))
    model = LosesReplies(script=[FIRST, lost, SECOND], lost_call=1)
    state, recorder = run_with_retries(make_agent(None, model=model))
    assert state["answer"] == "Ada"
    assert state["sampled_tokens"] == 5, "the run's limits count what it kept"
    assert shape(rows_of(recorder.turns)) == [
        ((1, 2, 3, 10, 11, 4, 5, 20, 21), [0, 0, 0, 1, 1, 0, 0, 1, 1]),
        ((1, 2, 3, 10, 11, 4, 5, 12, 13, 14), [0, 0, 0, 0, 0, 0, 0, 1, 1, 1]),
    ]


# --- fan-out and other roles on the same model -------------------------------------------------------------


class FanState(TypedDict, total=False):
    messages: list[AnyMessage]
    turn_id: str
    part: str
    done: Annotated[list[str], operator.add]


FAN_REPLIES = {
    "plan": Reply("p", (1, 2), (10, 11)),
    "rewrite east": Reply("re", (3,), (20, 21)),
    "rewrite west": Reply("rw", (3,), (22,)),
    "read east": Reply("e", (4, 5), (12,)),
    "read west": Reply("w", (4, 6), (13, 14)),
    "judge": Reply("yes", (7,), (30,)),
}


def make_fan_graph(model: BaseChatModel) -> Any:
    """plan -> (rewrite -> read) x 2 at once -> judge; all roles on one model, only plan and read are the policy's."""

    async def ask(
        runtime: Runtime[RunContext], messages: list[AnyMessage], say: str, role: str, parent: str | None
    ) -> tuple[list[AnyMessage], str]:
        assert runtime.context.recorder is not None
        conversation = [*messages, HumanMessage(say)]
        recording = CallRecording(runtime.context.recorder, role, parent)
        reply = await model.ainvoke(conversation, recording=recording)
        return [*conversation, reply], reply.response_metadata["turn_id"]

    async def plan(state: FanState, runtime: Runtime[RunContext]) -> FanState:
        messages, turn_id = await ask(runtime, [], "plan", "policy", None)
        return {"messages": messages, "turn_id": turn_id}

    async def explore(state: FanState, runtime: Runtime[RunContext]) -> FanState:
        part = state["part"]
        messages, turn_id = await ask(
            runtime, state["messages"], f"rewrite {part}", "rewriter", state["turn_id"]
        )
        _, turn_id = await ask(runtime, messages, f"read {part}", "policy", turn_id)
        return {"done": [turn_id]}

    async def judge(state: FanState, runtime: Runtime[RunContext]) -> FanState:
        await ask(runtime, state["messages"], "judge", "judge", state["turn_id"])
        await ask(runtime, [], "judge", "judge", None)
        return {}

    def fan_out(state: FanState) -> list[Send]:
        return [Send("explore", {**state, "part": part}) for part in ("east", "west")]

    graph = StateGraph(FanState, context_schema=RunContext)
    for node in (plan, explore, judge):
        graph.add_node(node.__name__, node)  # type: ignore[call-overload]
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", fan_out, ["explore"])
    graph.add_edge("explore", "judge")
    graph.add_edge("judge", END)
    return graph.compile()


async def test_parallel_branches_of_one_turn_train_it_once_and_other_roles_never():
    #                     .-> rewriter [3 | 20 21] -> policy [4 5 | 12]
    # policy [1 2 | 10 11] -> rewriter [3 | 22]    -> policy [4 6 | 13 14]
    #                     '-> judge [7 | 30]                                    judge [7 | 30]
    model = ScriptedRecordingModel(script=lambda messages: FAN_REPLIES[messages[-1].text])
    recorder = Recorder()
    await make_fan_graph(model).ainvoke({}, context=RunContext(recorder=recorder))

    roles = [turn.role for turn in recorder.turns]
    assert sorted(roles) == ["judge", "judge", "policy", "policy", "policy", "rewriter", "rewriter"]
    assert sum(turn.parent_id == recorder.turns[0].id for turn in recorder.turns) == 3
    east, west = sorted(shape(rows_of(recorder.turns)))
    assert east[0] == (1, 2, 10, 11, 3, 20, 21, 4, 5, 12)
    assert west[0] == (1, 2, 10, 11, 3, 22, 4, 6, 13, 14)
    # The plan trains in the branch that was finished first, whichever it was.
    plans = [east[1][2:4], west[1][2:4]]
    assert sorted(plans) == [[0, 0], [1, 1]]
    assert east[1] == [0, 0, *plans[0], 0, 0, 0, 0, 0, 1]
    assert west[1] == [0, 0, *plans[1], 0, 0, 0, 0, 1, 1]


# --- limits ------------------------------------------------------------------------------------------------


def test_a_run_cut_by_its_token_limit_trains_on_what_was_sampled_and_says_so():
    cut = Reply("<think>fou", (4, 5), (12, 13, 14), (-0.12, -0.13, -0.14))
    trajectory = make_agent([FIRST, cut], max_sampled_tokens=4).invoke("Who?").trajectory
    assert trajectory is not None
    assert trajectory.stop_reason == "token_limit"
    [row] = make_rows(trajectory)
    assert shape([row]) == [((1, 2, 3, 10, 11, 4, 5, 12, 13), [0, 0, 0, 1, 1, 0, 0, 1, 1])]
    assert row.logprobs == (0.0, 0.0, 0.0, -0.10, -0.11, 0.0, 0.0, -0.12, -0.13)
    assert row.is_truncated


def test_a_run_whose_limit_falls_on_the_end_of_a_step_is_not_truncated():
    trajectory = make_agent([FIRST], max_sampled_tokens=2).invoke("Who?").trajectory
    assert trajectory is not None
    assert trajectory.stop_reason == "token_limit"
    [row] = make_rows(trajectory)
    assert shape([row]) == [((1, 2, 3, 10, 11), [0, 0, 0, 1, 1])]
    assert not row.is_truncated


def test_a_run_out_of_searches_trains_on_its_refused_search_too():
    again = Reply(SEARCH, (4, 5), (20,))
    forced = Reply(ANSWER, (6, 7), (12, 13))
    trajectory = make_agent([FIRST, again, forced], max_searches=1).invoke("Who?").trajectory
    assert trajectory is not None
    assert (trajectory.stop_reason, len(trajectory.queries)) == ("forced", 1)
    [row] = make_rows(trajectory)
    assert shape([row]) == [((1, 2, 3, 10, 11, 4, 5, 20, 6, 7, 12, 13), [0, 0, 0, 1, 1, 0, 0, 1, 0, 0, 1, 1])]
    assert not row.is_truncated


def test_a_run_out_of_time_trains_on_its_last_step(monkeypatch: pytest.MonkeyPatch):
    now = [1000.0]

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now[0]

    def reply(messages: list[BaseMessage]) -> Reply:
        now[0] += 6.0
        return FIRST if len(messages) == 2 else Reply(SEARCH, (4, 5), (20, 21))

    monkeypatch.setattr(work, "time", Clock)
    trajectory = make_agent(reply, time_limit_s=10.0).invoke("Who?").trajectory
    assert trajectory is not None
    assert (trajectory.stop_reason, len(trajectory.queries)) == ("time_limit", 1)
    [row] = make_rows(trajectory)
    assert shape([row]) == [((1, 2, 3, 10, 11, 4, 5, 20, 21), [0, 0, 0, 1, 1, 0, 0, 1, 1])]
    assert not row.is_truncated, "no token is missing: the step was finished"


# --- checkpoints and threads -------------------------------------------------------------------------------


async def interrupted_run(agent: MaskSearchAgent) -> tuple[Any, Recorder]:
    graph = agent.builder.compile(checkpointer=InMemorySaver(), interrupt_before=["search"])
    recorder = Recorder()
    await graph.ainvoke({"question": "Who?"}, THREAD, context=RunContext(recorder=recorder))
    assert [turn.sampled_ids for turn in recorder.turns] == [(10, 11)]
    return graph, recorder


async def test_a_resumed_run_with_its_stored_turns_is_one_row():
    graph, before = await interrupted_run(make_agent([FIRST, SECOND]))
    stored = [dump_record(turn) for turn in before.turns]

    recorder = Recorder(load_record(Turn, data, AgentError) for data in stored)
    state = await graph.ainvoke(None, THREAD, context=RunContext(recorder=recorder))

    assert state["answer"] == "Ada"
    assert shape(rows_of(recorder.turns)) == ONE_ROW


async def test_a_resumed_run_without_them_reads_its_past_as_context(caplog: pytest.LogCaptureFixture):
    # What the second call really sends is the whole conversation, here 6 7 8 9.
    second = Reply(ANSWER, (6, 7, 8, 9), (12, 13, 14))
    graph, before = await interrupted_run(make_agent([FIRST, second]))
    recorder = Recorder()
    with caplog.at_level(logging.INFO):
        await graph.ainvoke(None, THREAD, context=RunContext(recorder=recorder))
    [turn] = recorder.turns
    assert (turn.parent_id, turn.forked_from) == (None, before.turns[0].id)
    assert [message.role for message in turn.context] == ["system", "user", "assistant", "user"]
    assert shape(rows_of(recorder.turns)) == [((6, 7, 8, 9, 12, 13, 14), [0, 0, 0, 0, 1, 1, 1])]
    assert "is not recorded here" in caplog.text


TASK = SearchTask("t", "qa", "Who?", (("Ada",),))


def search_then_answer(messages: list[BaseMessage]) -> Reply:
    return SECOND if messages[-1].text.startswith("<information>") else FIRST


async def test_a_rollout_on_a_used_thread_is_refused():
    agent = make_agent(search_then_answer, InMemorySaver())
    first = await agent.run_task(TASK, config=THREAD)
    assert shape(make_rows(first)) == ONE_ROW
    with pytest.raises(ThreadReuseError, match=r"the thread 't' has run before.*a new `thread_id`"):
        await agent.run_task(TASK, seed=1, config=THREAD)
    with pytest.raises(ThreadReuseError):
        await agent.with_limits(max_searches=1).run_task(TASK, config=THREAD)
    assert len(agent.model.calls) == 2


async def test_two_rollouts_at_once_on_one_thread_are_one_too_many():
    agent = make_agent(search_then_answer, InMemorySaver())
    outcomes = await asyncio.gather(
        *(agent.run_task(TASK, seed=seed, config=THREAD) for seed in range(2)), return_exceptions=True
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ThreadReuseError", "Trajectory"]
    with pytest.raises(ThreadReuseError):
        await agent.run_task(TASK, config=THREAD)


@pytest.mark.parametrize("checkpointer", [None, InMemorySaver()], ids=["no checkpointer", "checkpointer"])
async def test_rollouts_get_threads_of_their_own(checkpointer: Any):
    agent = make_agent(search_then_answer, checkpointer)
    trajectories = await asyncio.gather(*(agent.run_task(TASK, seed=seed) for seed in range(3)))
    assert [shape(make_rows(trajectory)) for trajectory in trajectories] == [ONE_ROW] * 3
    tagged = await agent.run_task(TASK, seed=3, config={"tags": ["rollout"]})
    assert shape(make_rows(tagged)) == ONE_ROW


# --- one recorder for many runs ----------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True], ids=["batch", "abatch"])
async def test_runs_of_a_batch_that_share_a_recorder_do_not_mix(is_async: bool):
    agent = make_agent(search_then_answer)
    shared = Recorder()
    questions = [f"question {number}" for number in range(6)]
    if is_async:
        answers = await agent.abatch(questions, context=RunContext(recorder=shared))
    else:
        answers = agent.batch(questions, context=RunContext(recorder=shared))
    for question, answer in zip(questions, answers, strict=True):
        assert answer.trajectory is not None
        assert answer.trajectory.turns[0].context[1].content == question
        assert shape(make_rows(answer.trajectory)) == ONE_ROW
        assert answer.usage.model_calls == 2
    own = [turn.id for answer in answers for turn in answer.trajectory.turns]  # type: ignore[union-attr]
    assert sorted(own) == sorted(turn.id for turn in shared.turns)
    assert len(set(own)) == 12


async def test_a_second_run_on_a_thread_does_not_train_the_first_one_s_tokens_again():
    second = Reply(ANSWER, (6, 7, 8, 9), (15,))
    agent = make_agent([FIRST, SECOND, second], InMemorySaver())
    shared = Recorder()
    first = await agent.ainvoke("Who?", THREAD, context=RunContext(recorder=shared))
    again = await agent.ainvoke([HumanMessage("And who else?")], THREAD, context=RunContext(recorder=shared))
    assert first.trajectory is not None
    assert again.trajectory is not None
    assert shape(make_rows(first.trajectory)) == ONE_ROW
    assert shape(make_rows(again.trajectory)) == [((6, 7, 8, 9, 15), [0, 0, 0, 0, 1])]
