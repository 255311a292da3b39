"""Evaluations as tests: the `evaluate` fixture, in any repository where this package is installed.

    def test_my_agent(evaluate):
        assert evaluate("hotpotqa").recall > 0.6

What is evaluated comes from the command line or from the settings of the same names in `pytest.ini`:
`--masksearch-agent` (an agent bundle, or the URL of a LangGraph server that serves one) and `--masksearch-data` (a
folder of benchmarks). An agent made in Python is given by overriding the fixture `masksearch_agent`, a judge model by
overriding `masksearch_judge`. Where agent or data are absent the test is skipped, with the reason.

A relative path is one from where pytest was started on the command line, and from the file's own folder in
`pytest.ini`. The workers of pytest-xdist share what `--masksearch-out` keeps: each waits until another has asked a
benchmark, and asks nothing again.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from masksearch_agent.agent.runnable import MaskSearchAgent
    from masksearch_agent.evaluation.answering import RemoteAgent
    from masksearch_agent.evaluation.runner import EvaluationSummary
    from masksearch_agent.judging.judge import ModelJudge

__all__ = ("Evaluate", "assert_at_least")

_SETTINGS = {
    "masksearch_agent": "agent to evaluate: a bundle folder or hub id, or the URL of a LangGraph server",
    "masksearch_data": "folder with one file, or one folder, a benchmark",
    "masksearch_out": "folder that keeps every question's result, which makes the evaluation resumable, and gets "
    "report.html, a page of all its runs",
    "masksearch_judge": "model that judges answers, as `provider:model` for LangChain's `init_chat_model`, or a "
    "checkpoint folder",
}
_HELD_OUT = ("dev", "test", "validation")
_KEPT = pytest.StashKey[Path]()
"""Where the session kept results."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; their long names leave room for those of other plugins."""
    group = parser.getgroup("masksearch-agent", "search agent evaluation")
    for name, text in _SETTINGS.items():
        group.addoption(f"--{name.replace('_', '-')}", dest=name, help=text)
        parser.addini(name, text)
    group.addoption(
        "--masksearch-limit", dest="masksearch_limit", type=int, help="questions of each benchmark at most"
    )
    parser.addini("masksearch_limit", "questions of each benchmark at most")
    again = "ask and judge again what failed in the results that are kept"
    group.addoption(
        "--masksearch-retry-failed", dest="masksearch_retry_failed", action="store_true", help=again
    )


@pytest.fixture(scope="session")
def masksearch_agent(pytestconfig: pytest.Config) -> Iterator[MaskSearchAgent | RemoteAgent]:
    """Return the agent to evaluate; override it for an agent made in Python."""
    name = _setting(pytestconfig, "masksearch_agent")
    if not name:
        pytest.skip("no agent to evaluate; pass --masksearch-agent, or override the fixture masksearch_agent")
    if name.startswith(("http://", "https://")):
        from masksearch_agent.evaluation.answering import RemoteAgent

        yield RemoteAgent(name)
        return
    from masksearch_agent.agent.bundle import BUNDLE_FILE
    from masksearch_agent.agent.runnable import MaskSearchAgent

    place = _place(pytestconfig, "masksearch_agent") or Path(name)
    is_hub_id = not Path(name).is_absolute() and name.count("/") == 1 and not place.parent.is_dir()
    if not is_hub_id and not (place / BUNDLE_FILE).is_file():
        pytest.skip(f"no agent bundle at {place}; train one (`masksearch quickstart`) or name another")
    agent = MaskSearchAgent.from_pretrained(name if is_hub_id else place)
    yield agent
    agent.close()


@pytest.fixture(scope="session")
def masksearch_judge(pytestconfig: pytest.Config) -> ModelJudge | None:
    """Return what judges answers, or None; override it for a model made in Python."""
    name = _setting(pytestconfig, "masksearch_judge")
    if not name:
        return None
    from masksearch_agent.config.judging import JudgeSettings
    from masksearch_agent.judging.judge import open_judge

    place = _place(pytestconfig, "masksearch_judge")
    return open_judge(JudgeSettings(model=str(place) if place is not None and place.is_dir() else name))


@pytest.fixture(scope="session")
def evaluate(
    pytestconfig: pytest.Config, masksearch_agent: Any, masksearch_judge: ModelJudge | None
) -> Iterator[Evaluate]:
    """Return a function that evaluates the agent on a benchmark; see `Evaluate`."""
    limit = _setting(pytestconfig, "masksearch_limit")
    evaluate = Evaluate(
        masksearch_agent,
        data=_place(pytestconfig, "masksearch_data"),
        out=_place(pytestconfig, "masksearch_out"),
        limit=int(limit) if limit else None,
        judge=masksearch_judge,
        retry_failed=pytestconfig.getoption("masksearch_retry_failed"),
    )
    yield evaluate
    if evaluate.out is not None and evaluate.done:
        pytestconfig.stash[_KEPT] = evaluate.out
        getattr(pytestconfig, "workeroutput", {})["masksearch_out"] = str(evaluate.out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take from a worker of pytest-xdist where it kept results."""
    if out := getattr(node, "workeroutput", {}).get("masksearch_out"):
        node.config.stash[_KEPT] = Path(out)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write the page of every run in the folder of results, and say where it is."""
    if _KEPT not in config.stash:
        return
    from masksearch_agent.errors import MaskSearchError
    from masksearch_agent.reports.evaluation_page import write_evaluation_page

    try:
        terminalreporter.write_line(f"report: {write_evaluation_page(config.stash[_KEPT])}")
    except MaskSearchError as failure:
        terminalreporter.write_line(f"no report: {failure}")


class Evaluate:
    """Evaluates one agent on benchmarks; each benchmark is run once, however many tests ask for it.

    Args:
        agent: The agent.
        data: Folder of benchmarks; None skips every test that names one.
        out: Folder for per-question results; None keeps none.
        limit: Questions of each benchmark at most.
        judge: Says whether answers are right; None leaves `judge` of the summaries None.
        retry_failed: Ask and judge again what failed in the results that are kept.
    """

    def __init__(
        self,
        agent: MaskSearchAgent | RemoteAgent,
        data: Path | None = None,
        out: Path | None = None,
        limit: int | None = None,
        judge: ModelJudge | None = None,
        retry_failed: bool = False,
    ) -> None:
        self.agent = agent
        self.data = data
        self.out = out
        self.limit = limit
        self.judge = judge
        self.retry_failed = retry_failed
        self.done: dict[tuple[Any, ...], EvaluationSummary] = {}
        """What was evaluated so far."""

    def __call__(
        self,
        benchmark: str | Path,
        *,
        mode: Literal["agentic", "rag", "rag-3shot"] = "agentic",
        baseline: Literal["rag-pe", "agent-pe", "rag-3shot"] | None = None,
        corpus: Literal["agent", "benchmark"] = "agent",
        limit: int | None = None,
        seed: int = 0,
    ) -> EvaluationSummary:
        """Evaluate the agent.

        Args:
            benchmark: Name of a file or folder in the data folder (`hotpotqa`, `hotpotqa/distractor_50`), the path of
                a file, or `hf:owner/name[@config][:split]`.
            mode: The search graph, or retrieving once with the agent's own model, asked in tags or in plain text.
            baseline: Evaluate this baseline instead of the agent.
            corpus: What is searched: what the agent searches anyway, or the passages that the benchmark ships (those
                of its questions, or `corpus.json(l)` beside them), indexed with BM25.
            limit: Questions at most, where the command line sets no limit.
            seed: Of sampling and of the intervals.

        Returns:
            The scores, with intervals.

        Raises:
            EvaluationError: The data cannot be read, or the agent cannot be evaluated so.
        """
        from masksearch_agent.config.evaluation import EvaluationSettings
        from masksearch_agent.evaluation import asking, baselines, runner
        from masksearch_agent.evaluation.results import ResultLabel
        from masksearch_agent.files import holding_once_free

        source = self.find(benchmark)
        settings = EvaluationSettings(limit=limit if self.limit is None else self.limit, seed=seed)
        key = (str(source), mode, baseline, corpus, settings.limit, seed)
        if key in self.done:
            return self.done[key]
        agent = self.agent
        if corpus == "benchmark":
            agent = asking.over_own_corpus(self._in_process(agent), Path(source))
        if baseline is not None:
            agent, mode = baselines.baseline_of(self._in_process(agent)), baselines.BASELINES[baseline]
        name, who = _name_of(source), baseline or mode
        own = corpus == "benchmark"
        out = self.out and self.out / f"{name}-{who}{'-own-corpus' if own else ''}.jsonl"
        label = ResultLabel(f"{name} (own corpus)" if own else name, who)
        shared = out if "PYTEST_XDIST_WORKER" in os.environ else None
        with holding_once_free(shared) if shared is not None else nullcontext():
            results = asking.ask_file(
                agent, source, settings, mode, out, label, self.judge, retry_failed=self.retry_failed
            )
        self.done[key] = runner.summarise(results, settings)
        return self.done[key]

    def find(self, benchmark: str | Path) -> Path | str:
        """Return the file of a benchmark, or skip the test where there is none.

        In a folder of several files that is the one whose name begins with `dev`, `test` or `validation`; a file whose
        name begins with `train` has to be named.

        Raises:
            EvaluationError: Several files could be meant, or training files only.
        """
        from masksearch_agent.corpus.tables import TABLE_READERS
        from masksearch_agent.errors import EvaluationError
        from masksearch_agent.evaluation.sources import HUB_PREFIX

        if str(benchmark).startswith(HUB_PREFIX) or Path(benchmark).is_file():
            return benchmark
        if self.data is None:
            pytest.skip(f"no data for {benchmark}; pass --masksearch-data with the folder of the benchmarks")
        place = self.data / benchmark
        files = [place.with_name(place.name + ending) for ending in TABLE_READERS]
        found = [file for file in files if file.is_file()]
        if not found and place.is_dir():
            found = [file for file in sorted(place.iterdir()) if _holds_questions(file)]
        if not found:
            pytest.skip(f"no questions of {benchmark} in {self.data}")
        held_out = [file for file in found if _stem(file).lower().startswith(_HELD_OUT)]
        found = held_out or found
        if len(found) > 1 or (place.is_dir() and _stem(found[0]).lower().startswith("train")):
            names = ", ".join(f"{benchmark}/{_stem(file)}" for file in found)
            raise EvaluationError(f"{place} holds no single file to evaluate on; name one of {names}")
        return found[0]

    def _in_process(self, agent: MaskSearchAgent | RemoteAgent) -> MaskSearchAgent:
        from masksearch_agent.evaluation.answering import RemoteAgent

        if isinstance(agent, RemoteAgent):
            pytest.skip("a deployed agent searches what it was deployed with; evaluate its bundle for this")
        return agent


def assert_at_least(summary: EvaluationSummary, thresholds: dict[str, float]) -> None:
    """Assert that scores reach their thresholds; the message shows every score with its interval.

    Args:
        summary: What `evaluate` returned.
        thresholds: Lowest mean by the name of a summary's field: `recall`, `em`, `f1`, `loose`, `judge`, …
    """
    __tracebackhide__ = True  # The message says it all.
    told = dataclasses.asdict(summary)
    scores = {name: score for name, score in told.items() if score is None or isinstance(score, int | float)}
    unknown = thresholds.keys() - scores.keys()
    if unknown:
        raise ValueError(
            f"no score is called {', '.join(sorted(unknown))}; expected some of {', '.join(scores)}"
        )
    low = {name: bound for name, bound in thresholds.items() if not _reaches(scores[name], bound)}
    intervals = {"recall": summary.ci95, "em": summary.em_ci95, "judge": summary.judge_ci95}
    shown = []
    for name in low:
        interval = intervals.get(name)
        around = f" (95% {interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
        value = "unknown" if scores[name] is None else f"{scores[name]:.3f}"
        shown.append(f"{name} is {value}{around}, expected at least {low[name]:.3f}")
    reasons = "; ".join(f"{count} because {reason}" for reason, count in summary.failures.items())
    failed = f", {summary.failed} of which failed: {reasons}" if summary.failed else ""
    assert not low, f"{'; '.join(shown)}; n = {summary.n}{failed}"


def _reaches(score: float | None, bound: float) -> bool:
    return score is not None and score >= bound


def _stem(file: Path) -> str:
    """Return a table's name without its ending, which may have two parts (`.jsonl.gz`)."""
    from masksearch_agent.corpus.tables import table_ending

    return file.name[: -len(table_ending(file))] if table_ending(file) else file.name


def _holds_questions(file: Path) -> bool:
    """Return whether a file's first row is a question; a corpus may lie beside it."""
    from masksearch_agent.corpus.tables import TABLE_READERS, table_ending
    from masksearch_agent.errors import EvaluationError
    from masksearch_agent.evaluation.sources import read_tasks

    if table_ending(file) not in TABLE_READERS or _stem(file) in {"corpus", "id_aliases"}:
        return False
    try:
        read_tasks(file)
    except EvaluationError:
        return False
    return True


def _name_of(source: Path | str) -> str:
    """Return a name for a source's results; many benchmarks call their file `dev`, so its folder is part of it."""
    from masksearch_agent.evaluation.sources import HUB_PREFIX, source_name

    name = source_name(source)
    return name if str(source).startswith(HUB_PREFIX) else f"{Path(source).resolve().parent.name}-{name}"


def _setting(config: pytest.Config, name: str) -> str | None:
    value = config.getoption(name)
    if value is None:
        value = config.getini(name) or None
    return None if value is None else os.fspath(value) if isinstance(value, os.PathLike) else str(value)


def _place(config: pytest.Config, name: str) -> Path | None:
    """Return where a setting points to, if it is set."""
    value = _setting(config, name)
    if not value:
        return None
    file = config.inipath if config.getoption(name) is None else None
    return (file.parent if file is not None else Path()) / Path(value).expanduser()
