"""`masksearch generate` and `ramp` with a chat model in place of the hindsight teacher and of spaCy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from fakes.chat_models import ScriptedChatModel
from fakes.chat_server import code_passage, code_task, play_role
from fakes.command_line import CommandLine
from langchain_core.messages import BaseMessage

from masksearch_agent.calls.accounting import Spending
from masksearch_agent.calls.chat import ChatCaller
from masksearch_agent.config.calls import ChatModelSettings
from masksearch_agent.generator import casting
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.stages import tasks as masking
from masksearch_agent.traces.store import TraceStore

pytest.importorskip("tantivy")


def reply(messages: Sequence[BaseMessage]) -> str:
    if "<facts>" in str(messages[0].text):
        return "<facts>NUMBER: 1901</facts>"
    return play_role([{"content": str(message.text)} for message in messages])


def open_fake(
    settings: ChatModelSettings, spending: Spending | None = None, *, has_many_calls: bool = False
) -> ChatCaller:
    return ChatCaller(ScriptedChatModel(script=reply, tokens_per_reply=5), settings.model, spending=spending)


@pytest.fixture
def run(run: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    monkeypatch.setattr(casting, "open_caller", open_fake)
    monkeypatch.setattr(masking, "open_chat_caller", open_fake)
    write_jsonl(tmp_path / "corpus.jsonl", [code_passage(number) for number in range(5)])
    indexed = run("index", "corpus.jsonl", "--out", "index", "--set", "retrieval.mode=bm25")
    assert indexed.code == 0, indexed.err
    return run


def test_chat_models_generate_with_a_bill_and_a_limit_and_go_on(run: CommandLine, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "tasks.jsonl", map(code_task, range(5)))
    command = ("generate", "tasks.jsonl", "--index", "index", "--out", "t.sqlite", "--model", "p:m", "--json")
    first = run(*command, "--limit", 3).json
    assert (first["accepted"], first["failed"]) == (3, 0)
    assert first["cost"]["planner"]["model_calls"] == 3
    assert first["cost"]["observer"]["sampled_tokens"] == 15
    assert set(first["cost"]) == {"planner", "rewriter", "observer"}
    rest = run(*command).json
    assert (rest["accepted"], rest["skipped"]) == (2, 3)
    with TraceStore(tmp_path / "t.sqlite") as store:
        assert {trajectory.producer for trajectory in store.trajectories()} == {"p:m, role prompts 1"}


def test_a_model_finds_the_spans_and_the_report_tells_what_it_cost_and_lost(run: CommandLine) -> None:
    Path("texts").mkdir()
    Path("texts/one.txt").write_text("Long ago in the year 1901 the mill by the river was built of stone.")
    Path("texts/two.txt").write_text("There is no such number in this text, which is long enough to be read.")
    report = run(
        *("ramp", "texts", "--index", "index", "--out", "tasks.jsonl", "--json"),
        *("--set", "ramp.span_model.model=p:m", "--set", "ramp.span_cache=cache.sqlite"),
    ).json
    assert report["spans_rejected"] == {
        "spans reply malformed: some lines of <facts> do not stand in the passage word for word": 1
    }
    assert report["cost"]["spans"]["model_calls"] == 1 + 3
    assert Path("cache.sqlite").is_file()


def test_an_unknown_web_search_is_refused(run: CommandLine) -> None:
    refused = run("generate", "tasks.jsonl", "--index", "web:bing")
    assert refused.code == 1
    assert "no web search is named 'web:bing'" in refused.err
