"""What a report says, as frozen records: the JSON file of a run, from which every page of it is made."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.intervals import Interval
from masksearch_agent.evaluation.runner import EvaluationSummary
from masksearch_agent.files import replace_text
from masksearch_agent.jsonl import dump_record, load_record
from masksearch_agent.records import Citation, Message

__all__ = (
    *("Curve", "Difference", "ExamReport", "Generation", "RetrievalScore", "Round", "RunReport", "Sample"),
    *("Score", "StageCost", "read_report", "write_json"),
)

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class StageCost:
    """What a stage took."""

    name: str
    seconds: float
    tokens: int = 0
    steps: int = 0
    exam_seconds: float = 0.0
    """Of its time, what exams took while it trained."""
    notes: tuple[str, ...] = ()
    """What went wrong in its training, and which weights it kept."""
    items: int = 0
    """What it worked on, where it counts that: questions, tasks, rollouts."""
    failed: int = 0
    failures: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Why some of them failed."""


@dataclass(frozen=True, slots=True)
class Score:
    """How an agent did on a dataset."""

    agent: str
    dataset: str
    summary: EvaluationSummary
    said: Interval | None = None
    """Recall of what the model wrote last, whatever its form; None where that was not measured."""
    answered: float | None = None
    """Share of the questions that ended in an answer by the protocol."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Two agents on the same questions."""

    after: str
    before: str
    dataset: str
    gain: Interval
    """Of the mean paired difference."""
    n: int | None = None
    """Questions that both answered; None in some reports of earlier versions."""
    metric: str = "recall"
    said: Interval | None = None
    """The same of what the models wrote last."""

    @property
    def pair(self) -> tuple[str, str]:
        """The two agents."""
        return self.after, self.before

    @property
    def name(self) -> str:
        """What is compared."""
        return f"{self.after} over {self.before}, {self.metric} on {self.dataset}"


@dataclass(frozen=True, slots=True)
class Generation:
    """What became of the trajectories of a stage."""

    stage: str
    accepted: int
    rejected: int
    reasons: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Why the others were rejected."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric over the steps of a training stage."""

    stage: str
    metric: str
    points: tuple[tuple[float, float], ...]
    """Step and value."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A trajectory to read. Text from outside is neutralised still: pages restore it once blocks are told apart."""

    title: str
    question: str
    gold: tuple[str, ...]
    answer: str
    recall: float | None
    stop_reason: str
    messages: tuple[Message, ...]
    citations: tuple[Citation, ...] = ()
    """What the answer rests on."""


@dataclass(frozen=True, slots=True)
class RetrievalScore:
    """What a retriever finds on its own."""

    retriever: str
    metric: str
    value: float


@dataclass(frozen=True, slots=True)
class Round:
    """A round of self-evolution."""

    number: int
    producer: str
    """Who wrote its trajectories."""
    tasks: int
    samples: int
    """Attempts at them."""
    accepted: int
    trained_on: int
    """Trajectories, those of earlier rounds included."""
    validation_recall: float
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0

    @property
    def accepted_share(self) -> float:
        """Share of the attempts that the judge accepted."""
        return self.accepted / self.samples if self.samples else 0.0


@dataclass(frozen=True, slots=True)
class ExamReport:
    """What an exam on held-out documents says of a run's agents."""

    scores: tuple[Score, ...]
    """On all questions (the dataset `exam`), then on those of each category, where there are several."""
    differences: tuple[Difference, ...]
    """On all questions, in recall and exact match: of every agent over the rival, of every stage over the start."""
    validation: tuple[Score, ...]
    """On other questions, which decided what is served; the start is the first."""
    served: str
    """The agent that is served."""
    start: str
    """What training started from."""
    rival: str
    """What one would use instead of training."""
    held_out: str = ""
    """What was held out, in words."""

    def score(self, agent: str) -> Score | None:
        """Return an agent's score on all questions; None where it has none."""
        return next((found for found in self.scores if found.agent == agent), None)

    def difference(self, after: str, before: str) -> Difference | None:
        """Return the paired difference of recall on all questions; None where there is none."""
        wanted = (after, before), "recall"
        return next((found for found in self.differences if (found.pair, found.metric) == wanted), None)


@dataclass(frozen=True, slots=True)
class RunReport:
    """A finished run."""

    title: str
    name: str = ""
    """The recipe's, after which files are called."""
    seed: int | None = None
    command: str = ""
    """What started it; empty where nothing did that could be typed."""
    base_model: str = ""
    wall_seconds: float | None = None
    peak_memory_gb: float | None = None
    cores: int | None = None
    versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    stages: tuple[StageCost, ...] = ()
    scores: tuple[Score, ...] = ()
    differences: tuple[Difference, ...] = ()
    curves: tuple[Curve, ...] = ()
    samples: tuple[Sample, ...] = ()
    generation: tuple[Generation, ...] = ()
    retrieval: tuple[RetrievalScore, ...] = ()
    tasks: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Tasks that were made, by category."""
    trained_questions: int = 0
    """Training questions of Stage II that gave a trajectory."""
    rounds: tuple[Round, ...] = ()
    stop_reason: str = ""
    """Why self-evolution ended."""
    best_round: int | None = None
    exam: ExamReport | None = None
    """None where no documents were held out, and in reports of earlier versions."""
    next_steps: tuple[str, ...] = ()
    format_version: int = FORMAT_VERSION

    def score(self, agent: str, dataset: str) -> Score | None:
        """Return one score; None where there is none."""
        return next((s for s in self.scores if (s.agent, s.dataset) == (agent, dataset)), None)

    @property
    def agents(self) -> tuple[str, ...]:
        """All agents, in order of first appearance."""
        return tuple(dict.fromkeys(score.agent for score in self.scores))

    @property
    def compared(self) -> tuple[tuple[str, str], ...]:
        """The pairs of agents that are compared, in order of first appearance."""
        return tuple(dict.fromkeys(found.pair for found in self.differences))

    @property
    def datasets(self) -> tuple[str, ...]:
        """All datasets, in order of first appearance."""
        return tuple(dict.fromkeys(score.dataset for score in self.scores))


def write_json(record: Any, path: Path) -> None:
    """Write a report record as a JSON file."""
    replace_text(path, json.dumps(dump_record(record), ensure_ascii=False, indent=2) + "\n")


def read_report(directory: Path) -> RunReport:
    """Read the report of a run folder, also of an earlier version.

    Raises:
        EvaluationError: The run has none yet, or it cannot be read.
    """
    path = directory / "report.json" if directory.is_dir() else directory
    if not path.is_file():
        raise EvaluationError(
            f"no report at {path}; it is written when the run ends; start the run again to go on"
        )
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    try:
        return load_record(
            RunReport, data if "format_version" in data else _from_unversioned(data), EvaluationError
        )
    except (EvaluationError, KeyError, TypeError) as failure:
        raise EvaluationError(f"{path} is not a report that this version reads: {failure}") from failure


def _from_unversioned(data: dict[str, Any]) -> dict[str, Any]:
    """Return a report of the versions before `format_version`, whose blocks were dictionaries by name."""
    kept, summary, known = (
        {field.name for field in dataclasses.fields(record)}
        for record in (RunReport, EvaluationSummary, Round)
    )
    scores = [
        {
            **{"agent": agent, "dataset": "test" if dataset == "held_out" else dataset},
            "summary": {key: value for key, value in cell.items() if key in summary},
            "answered": cell.get("answered"),
            "said": _interval(cell["said_recall"], *cell["said_ci95"]) if "said_recall" in cell else None,
        }
        for agent, cells in data.get("evals", {}).items()
        for dataset, cell in cells.items()
    ]
    retrieval = [
        {"retriever": retriever, "metric": metric, "value": value}
        for retriever, measured in data.get("retrieval", {}).items()
        for metric, value in measured.items()
    ]
    return {
        **{key: value for key, value in data.items() if key in kept},
        **{"scores": scores, "retrieval": retrieval},
        "differences": [_difference(entry) for entry in data.get("comparisons", ())],
        "rounds": [
            {"number": entry["round"], **{key: value for key, value in entry.items() if key in known}}
            for entry in data.get("rounds", ())
        ],
    }


def _difference(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an unversioned comparison, whose name says what is compared: `A over B, recall on D`."""
    after, _, rest = entry["name"].partition(" over ")
    before, _, where = rest.partition(", ")
    metric, _, dataset = where.partition(" on ")
    if metric == "held-out recall":  # Of self-evolution: `round 2 over round 1, held-out recall`.
        after, before = (name.replace("round ", "round_") for name in (after, before))
        metric, dataset = "recall", "test"
    gain = _interval(entry["mean"], entry["low"], entry["high"])
    parts = {"after": after, "before": before, "metric": metric, "dataset": dataset}
    return {**parts, "gain": gain, "n": entry.get("n"), "said": entry.get("said")}


def _interval(mean: float, low: float, high: float) -> dict[str, float]:
    return {"mean": mean, "low": low, "high": high}
