from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.command_line import CommandLine

pytest.importorskip("transformers")

from masksearch_agent.reports.records import RunReport
from masksearch_agent.runs import pretraining
from masksearch_agent.runs.question_files import QuestionFile
from masksearch_agent.stages.stage import AgentFolder, Site


def test_question_files_are_named_and_say_what_is_searched(
    run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Any] = []

    class NotedPretraining:
        def __init__(self, *arguments: Any) -> None:
            started.append(arguments)
            self.graph, self.agent = Site(), AgentFolder("here/agent")

        def run(self) -> RunReport:
            return RunReport("mine", wall_seconds=90.0, peak_memory_gb=1.0)

    monkeypatch.setattr(pretraining, "Pretraining", NotedPretraining)
    options = ("--test", "wiki=a.jsonl", "--test-with-passages", "hotpot=b=c.json", "--seed", 3)
    options += ("--train-questions", "mine.jsonl", "--train-questions", "more.json")
    ran = run("pretrain", "docs", *options, "--set", "name=mine", "--out", "here")
    assert (ran.code, "report: here/mine.md" in ran.out) == (0, True)
    assert "agent: here/agent" in ran.out
    [(recipe, corpus, questions, out, _, command, trained)] = started
    assert list(trained) == [Path("mine.jsonl"), Path("more.json")]
    assert (recipe.seed, recipe.name, corpus, out) == (3, "mine", Path("docs"), Path("here"))
    assert questions == [
        QuestionFile("hotpot", Path("b=c.json"), has_passages=True),
        QuestionFile("wiki", Path("a.jsonl")),
    ]
    assert command.startswith("masksearch pretrain docs --test wiki=a.jsonl")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "no corpus at docs"),
        (("--set", "exam.documents=0"), "nothing to evaluate on"),
        (("--test", "a.jsonl"), "expected NAME=FILE"),
        (("--test", "a/b=c.jsonl"), "expected NAME=FILE"),
        (("--test", "a=b.jsonl"), "no corpus at docs"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(
    run: CommandLine, options: tuple[str, ...], message: str
) -> None:
    ran = run("pretrain", "docs", *options)
    assert (ran.code, message in ran.err) == (1, True)


@pytest.mark.parametrize("out", ["docs", "docs/run", "docs/../docs/run"])
def test_a_run_inside_its_own_corpus_is_refused_before_anything_is_written(
    run: CommandLine, tmp_path: Path, out: str
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("Ann Bo built the quay.")
    ran = run("pretrain", "docs", "--out", out)
    assert (ran.code, f"the run folder {out} is inside the corpus docs" in ran.err) == (1, True)
    assert [path.name for path in (tmp_path / "docs").iterdir()] == ["a.txt"]
