"""An app of LangChain's `create_agent`, in which our agent is a tool among others."""

from __future__ import annotations

from typing import Any

import pytest
from fakes.chat_models import ScriptedChatModel, ScriptedRecordingModel
from fakes.ecosystem import ToolCallingModel, call, make_searcher
from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde import _msgpack
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Command

from masksearch_agent import CHECKPOINTED, MaskSearchAgent, Passage, SearchAnswer

THREAD: Any = {"configurable": {"thread_id": "t"}}
ADA = "Ada [1]\n\n[1] Harrow: “Ada founded Harrow.” (found, not cited)"
BO = "Bo [1]\n\n[1] Velling: “Bo founded Velling.” (found, not cited)"


def results(messages: list[Any]) -> dict[str, ToolMessage]:
    return {message.tool_call_id: message for message in messages if isinstance(message, ToolMessage)}


async def test_parallel_calls_are_answered_each_and_survive_a_checkpointer():
    parallel = AIMessage("", tool_calls=[call("Harrow", "1"), call("Velling", "2")])
    script = [parallel, AIMessage("Ada and Bo."), AIMessage("Ada, as I said.")]
    for is_async in (False, True):
        model = ToolCallingModel(script=script)
        app = create_agent(model, [make_searcher().as_tool()], checkpointer=InMemorySaver())

        async def ask(text: str, app: Any = app, is_async: bool = is_async) -> list[Any]:
            asked = {"messages": [HumanMessage(text)]}
            state = await app.ainvoke(asked, THREAD) if is_async else app.invoke(asked, THREAD)
            return list(state["messages"])

        found = results(await ask("Who founded Harrow and Velling?"))
        assert {key: message.text for key, message in found.items()} == {
            "1": ADA,
            "2": BO,
        }
        messages = await ask("Who founded Harrow?")
        assert messages[-1].text == "Ada, as I said."
        # Read back from the checkpoint, the artifact is what it was.
        kept = results(app.get_state(THREAD).values["messages"])["2"].artifact
        assert isinstance(kept, SearchAnswer)
        assert (kept.answer, [source.title for source in kept.sources]) == ("Bo", ["Velling"])
        assert len(model.calls) == 3
        assert not any("<search>" in message.text for message in model.calls[-1])


def test_a_strict_checkpointer_gives_back_the_whole_answer_of_an_async_search(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async def search(query: str) -> list[Passage]:
        return [Passage("h", "Harrow", "Ada founded Harrow.", metadata={"page": 3, "part": {"n": [1]}})]

    monkeypatch.setattr(_msgpack, "STRICT_MSGPACK_ENABLED", True)
    script = ["<think>x</think><search>founder</search>", "<think>ok</think><answer>Ada</answer>"]
    tool = MaskSearchAgent(ScriptedRecordingModel(script=script), search).as_tool()
    calls = [AIMessage("", tool_calls=[call("Harrow", "1")]), AIMessage("Ada.")]
    saver = InMemorySaver(serde=JsonPlusSerializer(allowed_msgpack_modules=CHECKPOINTED))
    app = create_agent(ToolCallingModel(script=calls), [tool], checkpointer=saver)
    given = results(app.invoke({"messages": [HumanMessage("Who?")]}, THREAD)["messages"])["1"].artifact
    kept = results(app.get_state(THREAD).values["messages"])["1"].artifact
    assert isinstance(kept, SearchAnswer)
    assert kept.trajectory is not None
    assert (kept.answer, kept.citations[0].passage.metadata["page"]) == ("Ada", 3)
    assert kept.trajectory.turns[0].context[0].role == "system"
    assert kept.trajectory.turns[0].sampling is not None
    assert kept == given
    assert [record.message for record in caplog.records if "msgpack" in record.message] == []


async def test_a_person_approves_edits_and_rejects_a_search():
    searcher = make_searcher()
    script = [AIMessage("", tool_calls=[call("Harrow", "1")]), AIMessage("done")]
    decisions: list[tuple[dict[str, Any], str]] = [
        ({"type": "approve"}, ADA),
        (
            {
                "type": "edit",
                "edited_action": {"name": "research", "args": {"question": "Who founded Velling?"}},
            },
            BO,
        ),
        ({"type": "reject", "message": "not now"}, "not now"),
    ]
    for decision, said in decisions:
        app = create_agent(
            ToolCallingModel(script=script),
            [searcher.as_tool()],
            middleware=[HumanInTheLoopMiddleware(interrupt_on={"research": True})],
            checkpointer=InMemorySaver(),
        )
        waiting = await app.ainvoke({"messages": [HumanMessage("Who founded Harrow?")]}, THREAD)
        [interrupt] = waiting["__interrupt__"]
        assert interrupt.value["action_requests"][0]["args"] == {"question": "Who founded Harrow?"}
        state = await app.ainvoke(Command(resume={"decisions": [decision]}), THREAD)
        assert said in results(state["messages"])["1"].text
        assert state["messages"][-1].text == "done"


def test_a_failing_search_is_the_app_s_to_handle():
    broken = make_searcher(model=ScriptedChatModel(script=["?"]), max_repairs=0)
    script = [AIMessage("", tool_calls=[call("Harrow", "1")]), AIMessage("I could not find it.")]
    state = create_agent(ToolCallingModel(script=script), [broken.as_tool()]).invoke(
        {"messages": [HumanMessage("Who founded Harrow?")]}
    )
    assert results(state["messages"])["1"].text == "No answer was found (repairs_exhausted)."
