"""The stage that evaluates: what its files say of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.backends import TableBackend
from fakes.chat_models import ScriptedChatModel

from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.evaluation.results import read_label, read_results
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.records import SearchTask
from masksearch_agent.stages.evaluation import Asked, Evaluation
from masksearch_agent.stages.graph import StageGraph
from masksearch_agent.stages.stage import AgentFolder, IndexFolder, Searched, TaskFile


@pytest.mark.parametrize(("name", "who"), [("evals/ramp_sft", "ramp_sft"), ("", "rag")])
def test_results_say_whose_they_are_and_of_what(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, who: str
) -> None:
    def restore(path: Path, search: Any) -> MaskSearchAgent:
        model = ScriptedChatModel(script=lambda messages: "<think>It is so.</think><answer>Ann</answer>")
        return MaskSearchAgent(model, TableBackend({}), prompts=COMPACT_PROMPTS)

    monkeypatch.setattr(MaskSearchAgent, "from_pretrained", restore)
    monkeypatch.setattr(StageGraph, "search", lambda graph, searched: None)
    write_jsonl(tmp_path / "any name.jsonl", [SearchTask("q", "qa", "Who?", (("Ann",),))])
    searched = Searched(IndexFolder("index"), RetrievalSettings())
    exam = Evaluation(
        name=name,
        agent=AgentFolder("agent"),
        asked={"docks": Asked(TaskFile(str(tmp_path / "any name.jsonl")), searched)},
        mode="rag" if not name else "agentic",
        settings=EvaluationSettings(),
    )
    graph = StageGraph(tmp_path / "run")
    graph.finish(exam)
    file = graph.where(exam.results["docks"])
    label = read_label(file)
    assert label is not None
    assert (label.dataset, label.agent) == ("docks", who)
    assert [result.recall for result in read_results(file)] == [1.0]
