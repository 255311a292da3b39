"""What the documents show runs: Python over scripted models, commands as far as they parse, recipes as settings."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
import yaml
from fakes.chat_models import ScriptedChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool

from masksearch_agent.cli import app
from masksearch_agent.config.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs/how-to").glob("*.md")),
]
RUN = [ROOT / "README.md", ROOT / "docs" / "tutorial.md", *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
GROUP: Any = typer.main.get_command(app)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.stem}-{self.text.splitlines()[0][:40]}"


def blocks_of(page: Path, language: str) -> list[Block]:
    found = _BLOCK.findall(page.read_text(encoding="utf-8"))
    return [Block(page, name, text) for name, text in found if name == language]


COMMANDS = [
    (page.stem, " ".join(line.split()))
    for page in PAGES
    for block in blocks_of(page, "bash")
    for line in block.text.replace("\\\n", " ").splitlines()
    if re.match(r"\s*(\.venv/bin/)?masksearch ", line)
]
RECIPES = [block for page in PAGES for block in blocks_of(page, "yaml")]


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_a_command_of_a_page_parses(
    page: str, line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(line, comments=True)[1:]
    words = [word for word in words if word != "&"]
    group, name = GROUP, words.pop(0)
    while hasattr(command := group.commands[name], "commands") and words and words[0] in command.commands:
        group, name = command, words.pop(0)
    command.make_context(name, words)


@pytest.mark.parametrize("block", RECIPES, ids=str)
def test_a_recipe_of_a_page_is_one(block: Block) -> None:
    Recipe.model_validate(yaml.safe_load(block.text))


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs_from_top_to_bottom(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocks = blocks_of(page, "python")
    if not blocks:
        pytest.skip("the page shows no Python")
    stand_in_for_services(monkeypatch)
    stand_in_for_folders(monkeypatch, tmp_path)
    names: dict[str, Any] = {"__name__": "page", **GIVEN.get(page.stem, {})}
    for block in blocks:
        exec(compile(block.text, str(page), "exec"), names)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = (
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--quiet",
        "--strict",
        "--site-dir",
        str(tmp_path / "site"),
    )
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False)
    assert (built.returncode, built.stderr) == (0, "")
    agent = (tmp_path / "site" / "reference" / "agent" / "index.html").read_text(encoding="utf-8")
    assert "from_pretrained" in agent
    names = {str(page.relative_to(ROOT / "docs").with_suffix("")) for page in (ROOT / "docs").rglob("*.md")}
    in_nav = set(re.findall(r"- ([\w/-]+)\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    assert names - in_nav == set()


def reply(messages: list[BaseMessage]) -> AIMessage | str:
    """Search once, then answer: in tags, or, where the model was given tools, by its first one."""
    last = messages[-1]
    if last.text.startswith("<information>") or isinstance(last, ToolMessage):
        return (
            "<think>It says so.</think><answer>Ada Lovelace</answer>" if tagged(messages) else "Ada Lovelace"
        )
    if tagged(messages):
        return "<think>I have to look.</think><search>founder of Harrow Shipyard</search>"
    return AIMessage("Ada Lovelace")


def tagged(messages: list[BaseMessage]) -> bool:
    return any("<search>" in message.text for message in messages if message.type in ("system", "human"))


def stand_in_for_services(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every chat model that a page names be a scripted one."""

    def model(*_: Any, **__: Any) -> ScriptedChatModel:
        return ToolCaller(script=reply)

    monkeypatch.setattr("langchain.chat_models.init_chat_model", model)
    ollama = ModuleType("langchain_ollama")
    ollama.ChatOllama = model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "langchain_ollama", ollama)


class ToolCaller(ScriptedChatModel):
    """Takes tools, and calls the first of them once where it is not told to write tags."""

    def bind_tools(self, tools: Any, **_: Any) -> Any:
        schema = convert_to_openai_tool(tools[0])["function"]
        parameters = schema["parameters"]["properties"]
        arguments = {
            name: ["founder"] if one.get("type") == "array" else "Ada" for name, one in parameters.items()
        }
        call = {"type": "tool_call", "id": "1", "name": schema["name"], "args": arguments}

        def use(messages: list[BaseMessage]) -> AIMessage:
            is_done = isinstance(messages[-1], ToolMessage)
            return AIMessage("Ada Lovelace") if is_done else AIMessage("", tool_calls=[call])

        return ToolCaller(script=use)


def stand_in_for_folders(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make the index that pages name; a bundle restores an agent over a scripted model."""
    from masksearch_agent import MaskSearchAgent, Passage
    from masksearch_agent.config.retrieval import RetrievalSettings
    from masksearch_agent.retrieval.index import build_index

    monkeypatch.chdir(folder)
    passages = [Passage("1", "Harrow", "Ada Lovelace founded Harrow Shipyard in 1932.")]
    build_index(passages, folder / "runs" / "index", RetrievalSettings(mode="bm25"))

    def restored(path: str, *_: Any, **__: Any) -> MaskSearchAgent:
        return MaskSearchAgent(ToolCaller(script=reply), folder / "runs" / "index")

    monkeypatch.setattr(MaskSearchAgent, "from_pretrained", restored)


GIVEN: dict[str, dict[str, Any]] = {"README": {"my_retriever": lambda query: ["Ada Lovelace opened it."]}}
"""What a page takes for granted."""
