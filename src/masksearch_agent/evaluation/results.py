"""Results of an evaluation: one question's answer and scores, and the files that keep them.

A file is JSON lines. The first one says who answered what (`ResultLabel`), each other one is a question; a question
that was judged later stands there twice, and the last one counts. A line that a killed process left half written is
dropped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from masksearch_agent.errors import EvaluationError
from masksearch_agent.files import append_bytes
from masksearch_agent.jsonl import dump_record, load_record, read_lines
from masksearch_agent.records import Trajectory

__all__ = (
    *("QuestionResult", "ResultFile", "ResultLabel", "append_result", "check_producer", "list_results"),
    *("read_label", "read_results"),
)

_MARK = "masksearch_results"
_FORMAT_VERSION = 1
_EARLIER_ENDINGS = ("agentic", "rag-pe", "agent-pe", "rag")
"""How versions before the first line ended the names of their files."""
_EARLIER_RUNS = re.compile(
    r"(?P<agent>(?:untrained|rag|ramp_sft|ramp_dapo|qa_sft|final)(?=-(?:ramp|qa_\d+hop)$)|(?:rag|agent)-pe|ramp_sft|ramp_dapo)"
    r"-(?P<dataset>.+)"
)
"""How the runs of those versions named them: the agent first."""


@dataclass(frozen=True, slots=True)
class ResultLabel:
    """What a file holds the results of."""

    dataset: str
    agent: str
    """Who answered: `agentic`, `rag-pe`, the name of a stage, …"""
    mode: str = field(default="", compare=False)
    """How: `agentic` or `rag`; empty in files of earlier versions, as are the next two."""
    model_version: str = field(default="", compare=False)
    seed: int = field(default=0, compare=False)
    asked_with: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """What else the answers depend on (`answering.conditions_of`); empty where that is not known."""


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file of results and what they are the results of."""

    path: Path
    label: ResultLabel


@dataclass(frozen=True, slots=True)
class QuestionResult:
    """One question's answer and scores."""

    task_id: str
    question: str
    gold: tuple[str, ...]
    """The first accepted answer of each slot."""
    answer: str
    recall: float
    em: float
    f1: float
    stop_reason: str
    searches: int
    sampled_tokens: int
    format_errors: int
    gold_recall: float | None
    """Share of the gold passages that were retrieved; None where unknown."""
    hops: int
    seconds: float
    """From the question to its answer; other questions run at the same time."""
    trajectory: Trajectory | None = None
    category: str = ""
    """The task's: `bridge`, `comparison`, `false-premise`, …"""
    prompt_tokens: int = 0
    """Tokens the model read, counted once per call; 0 for a model that does not say."""
    loose: float | None = None
    """By the benchmark's own metric, such as FanoutQA's loose accuracy; None where it does not apply."""
    is_correct: bool | None = None
    """The judge's verdict; None where nobody judged or no verdict was to be had."""
    failure: str = ""
    """Why there is no answer, where asking failed: the question then counts as wrong."""
    judge_failure: str = ""
    """Why there is no verdict, where judging failed: the judge's score then counts the answer as wrong."""
    accepted_id: str = ""
    """Hash of all accepted answers, by which a verdict given with others is known; empty in files of before."""

    @property
    def has_failed(self) -> bool:
        """Whether asking or judging failed."""
        return bool(self.failure or self.judge_failure)

    @property
    def verdict(self) -> float | None:
        """What the judge's score counts the answer as: 1 right, 0 wrong, None where nobody judged."""
        if self.is_correct is None:
            return 0.0 if self.judge_failure else None
        return float(self.is_correct)


def read_results(path: Path) -> list[QuestionResult]:
    """Read the results of a file, each question once.

    Raises:
        EvaluationError: The file is missing or malformed.
    """
    results: dict[str, QuestionResult] = {}
    for number, data in _read_lines(path):
        if _MARK in data:
            continue
        try:
            result = load_record(QuestionResult, data, EvaluationError)
        except EvaluationError as failure:
            raise EvaluationError(f"{path}, line {number}: {failure}") from failure
        results[result.task_id] = result
    return list(results.values())


def read_label(path: Path) -> ResultLabel | None:
    """Return what a file holds the results of; None where it holds something else.

    A file that cannot be read may be one that is just being written: it counts, and reading it says what is wrong.
    """
    try:
        _, data = next(_read_lines(path), (0, {"task_id": ""}))
    except EvaluationError:
        data = {"task_id": ""}
    if _MARK in data:
        known = {entry.name for entry in fields(ResultLabel)}
        return load_record(ResultLabel, {k: v for k, v in data.items() if k in known}, EvaluationError)
    if "task_id" not in data or ("recall" not in data and data["task_id"]):
        return None
    stem = path.stem.removesuffix("-own-corpus")
    own = " (own corpus)" if stem != path.stem else ""
    for agent in _EARLIER_ENDINGS:
        if stem.endswith(f"-{agent}"):
            return ResultLabel(stem.removesuffix(f"-{agent}") + own, agent)
    of_run = _EARLIER_RUNS.fullmatch(stem)
    if of_run is not None:
        return ResultLabel(of_run["dataset"], "agent" if of_run["agent"] == "final" else of_run["agent"])
    return ResultLabel(path.stem, "agentic")


def list_results(folder: Path, agents: Sequence[str] = ()) -> list[ResultFile]:
    """Return the files of results in a folder and those below it.

    Args:
        folder: The folder.
        agents: Who comes first, in this order; others follow by name. Datasets stand by name.
    """
    order = {name: place for place, name in enumerate(agents)}
    labels = ((path, read_label(path)) for path in sorted(folder.rglob("*.jsonl")))
    found = [ResultFile(path, label) for path, label in labels if label is not None]
    return sorted(found, key=lambda f: (f.label.dataset, order.get(f.label.agent, len(order)), f.label.agent))


def append_result(path: Path, result: QuestionResult, label: ResultLabel | None = None) -> None:
    """Add a result to a file, on disk when this returns; a new file begins with its label."""
    lines = [dump_record(result)]
    if label is not None and not (path.is_file() and path.stat().st_size):
        lines.insert(0, {_MARK: _FORMAT_VERSION, **dump_record(label)})
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    append_bytes(path, text.encode(errors="replace"))  # Half a surrogate pair in an answer cannot be written.


def check_producer(
    path: Path | None, model_version: str, seed: int, asked_with: Mapping[str, Any]
) -> dict[str, QuestionResult]:
    """Return the results that a run goes on from, by the task's id; none where there is no file yet.

    Raises:
        EvaluationError: They are another model's or another seed's, or something that the file and this run both say
            under `ResultLabel.asked_with` is not the same.
    """
    if path is None or not path.is_file():
        return {}
    _drop_torn_line(path)
    results = {result.task_id: result for result in read_results(path)}
    trajectories = [result.trajectory for result in results.values() if result.trajectory is not None]
    producers = {trajectory.producer for trajectory in trajectories}
    advice = "choose another folder, or delete the file to ask again"
    if producers - {model_version}:
        raise EvaluationError(
            f"{path} holds results of {', '.join(sorted(producers))}, but the agent to evaluate is {model_version}; "
            f"{advice}"
        )
    seeds = {trajectory.seed for trajectory in trajectories}
    if seeds - {seed}:
        raise EvaluationError(
            f"{path} holds results of seed {', '.join(map(str, sorted(seeds)))}, but this evaluation has seed {seed}; "
            f"{advice}"
        )
    before = label.asked_with if (label := read_label(path)) is not None else {}
    if changed := [name for name in asked_with if name in before and before[name] != asked_with[name]]:
        told = (f"{name} ({before[name]!r} then, {asked_with[name]!r} now)" for name in changed)
        raise EvaluationError(
            f"{path} holds answers that were given with another {', '.join(told)}; {advice}"
        )
    return results


def _read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, data in read_lines(path, EvaluationError):
        if not isinstance(data, dict):
            raise EvaluationError(f"{path}, line {number}: a {type(data).__name__}; expected a result")
        yield number, data


def _drop_torn_line(path: Path) -> None:
    """Cut a last line that a killed process left half written."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)
