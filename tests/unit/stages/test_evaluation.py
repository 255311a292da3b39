"""The stage that evaluates: what its files say of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.backends import TableBackend
from fakes.chat_models import ScriptedChatModel
from langchain_core.messages import BaseMessage

from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.errors import ModelError
from masksearch_agent.evaluation.results import read_label, read_results
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.records import SearchTask
from masksearch_agent.stages.evaluation import Asked, Evaluation
from masksearch_agent.stages.graph import StageGraph
from masksearch_agent.stages.stage import AgentFolder, IndexFolder, Searched, TaskFile


def make_exam(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *tasks: SearchTask, **changes: Any
) -> Evaluation:
    def restore(path: Path, search: Any) -> MaskSearchAgent:
        def reply(messages: list[BaseMessage]) -> str:
            if broken and "Which?" in str(messages[-1].content):
                raise ModelError("the prompt has 2100 tokens")
            return "<think>It is so.</think><answer>Ann</answer>"

        return MaskSearchAgent(ScriptedChatModel(script=reply), TableBackend({}), prompts=COMPACT_PROMPTS)

    monkeypatch.setattr(MaskSearchAgent, "from_pretrained", restore)
    monkeypatch.setattr(StageGraph, "search", lambda graph, searched: None)
    write_jsonl(folder / "any name.jsonl", tasks)
    searched = Searched(IndexFolder("index"), RetrievalSettings())
    asked = {"docks": Asked(TaskFile(str(folder / "any name.jsonl")), searched)}
    return Evaluation(agent=AgentFolder("agent"), asked=asked, settings=EvaluationSettings(), **changes)


WHO = SearchTask("q", "qa", "Who?", (("Ann",),))
WHICH = SearchTask("p", "qa", "Which?", (("Ann",),))
broken: list[str] = []


def test_a_stage_is_done_though_a_question_failed_and_says_so_until_it_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    exam = make_exam(monkeypatch, tmp_path, WHO, WHICH)
    monkeypatch.setitem(globals(), "broken", ["Which?"])
    for _ in range(2):  # The second start finds it done, and says the same.
        graph = StageGraph(tmp_path / "run")
        took = graph.finish(exam)
        assert (took.items, took.failed) == (2, 1)
        assert took.failures == {"the prompt has … tokens": 1}
    monkeypatch.setitem(globals(), "broken", [])
    assert StageGraph(tmp_path / "run").finish(exam).failed == 1
    graph = StageGraph(tmp_path / "run")
    graph.retry_failed = True
    assert graph.finish(exam).failed == 0
    assert [r.recall for r in read_results(graph.where(exam.results["docks"]))] == [1.0, 1.0]


@pytest.mark.parametrize(("name", "who"), [("evals/ramp_sft", "ramp_sft"), ("", "rag")])
def test_results_say_whose_they_are_and_of_what(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, who: str
) -> None:
    exam = make_exam(monkeypatch, tmp_path, WHO, name=name, mode="rag" if not name else "agentic")
    graph = StageGraph(tmp_path / "run")
    graph.finish(exam)
    file = graph.where(exam.results["docks"])
    label = read_label(file)
    assert label is not None
    assert (label.dataset, label.agent) == ("docks", who)
    assert [result.recall for result in read_results(file)] == [1.0]
