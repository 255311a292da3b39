"""`ask` and `mcp` over a bundle, or over any chat model and any index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.chat_models import ScriptedChatModel
from fakes.chat_server import code_passage
from fakes.command_line import CommandLine
from langchain_core.messages import AIMessage

from masksearch_agent.agent import runnable
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.retrieval import ServedSearchSettings
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.retrieval import adapters
from masksearch_agent.retrieval.adapters import as_search
from masksearch_agent.retrieval.search import Search
from masksearch_agent.serving import mcp_server

pytest.importorskip("tantivy")

QUESTION = "What is the code of item 3?"
MODEL = ("--model", "p:m", "--index", "index")


@pytest.fixture
def run(run: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CommandLine:
    script = ["<think>x</think><search>item 3</search>", "<think>ok</think><answer>C3x</answer>"]

    def open_model(name: str) -> Any:
        assert name == "p:m"
        return ScriptedChatModel(script=script)

    monkeypatch.setattr(runnable, "open_model", open_model)
    write_jsonl(tmp_path / "corpus.jsonl", [code_passage(number) for number in range(5)])
    assert run("index", "corpus.jsonl", "--out", "index", "--set", "retrieval.mode=bm25").code == 0
    return run


def test_any_chat_model_is_asked_over_any_index(run: CommandLine) -> None:
    answer = run("ask", QUESTION, *MODEL, "--json").json
    assert (answer["answer"], answer["stop_reason"]) == ("C3x", "answered")
    assert answer["sources"][0]["title"] == "Item 3"
    shown = run("ask", QUESTION, *MODEL).out
    assert "search  item 3" in shown
    assert "The code of item 3 is C3x." in shown
    one = run("ask", QUESTION, *MODEL, "--set", "agent.passages_per_search=1", "--json").json
    assert len(one["sources"]) == 1


def test_the_steps_of_a_model_that_calls_tools_are_shown(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = {"name": "search", "args": {"queries": ["item 3"]}, "id": "1", "type": "tool_call"}
    model = ScriptedChatModel(script=[AIMessage("I look it up.", tool_calls=[call]), AIMessage("C3x")])
    monkeypatch.setattr(ScriptedChatModel, "bind_tools", lambda self, tools: self, raising=False)
    monkeypatch.setattr(runnable, "open_model", lambda name: model)
    shown = run("ask", QUESTION, *MODEL, "--set", "agent.dialect=tools")
    assert "think   I look it up." in shown.out
    assert "malformed" not in shown.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "expected either `--agent` (a bundle) or `--model`"),
        (("--agent", "a", *MODEL), "got both"),
        (("--model", "p:m"), "`--model` came with no `--index` to search"),
        ((*MODEL, "--base-url", "http://x"), "`--model` came with `--base-url`, which is for a bundle"),
        (("--model", "p:m", "--index", "nowhere"), "no index in nowhere"),
    ],
)
@pytest.mark.parametrize("command", [("ask", QUESTION), ("mcp",)], ids=["ask", "mcp"])
def test_options_that_name_no_agent_or_two_are_refused(
    run: CommandLine, command: tuple[str, ...], options: tuple[str, ...], message: str
) -> None:
    refused = run(*command, *options)
    assert refused.code == 1
    assert message in refused.err


def test_prompts_and_search_are_those_of_the_recipe(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[MaskSearchAgent] = []
    monkeypatch.setattr(mcp_server, "serve_mcp", lambda agent, port: served.append(agent))
    asked: list[str] = []

    def open_served(url: str, settings: ServedSearchSettings) -> Search:
        asked.append(f"{url}{settings.path}")
        return as_search("index")

    monkeypatch.setattr(adapters, "open_served_search", open_served)
    run("mcp", *MODEL)
    url = "http://127.0.0.1:8100"
    run(
        "mcp",
        "--model",
        "p:m",
        "--index",
        url,
        "--set",
        "prompts=few_shot",
        "--set",
        "retrieval.served.path=/find",
    )
    assert [agent.prompts.has_examples for agent in served] == [False, True]
    assert asked == [f"{url}/find"]


def test_an_agent_is_served_to_mcp_clients(run: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[MaskSearchAgent, int | None]] = []
    monkeypatch.setattr(mcp_server, "serve_mcp", lambda agent, port: served.append((agent, port)))
    quiet = run("mcp", *MODEL)
    assert (quiet.code, quiet.out) == (0, ""), "standard output is the protocol's"
    assert "http://127.0.0.1:8123/mcp" in run("mcp", *MODEL, "--port", "8123").err
    assert [port for _, port in served] == [None, 8123]
    assert served[0][0].invoke(QUESTION).answer == "C3x"
