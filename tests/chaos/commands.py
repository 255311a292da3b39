"""The commands that are stopped, on a closed world, and what they have to come to in spite of it."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import Ended, run

from masksearch_agent.errors import MaskSearchError
from masksearch_agent.evaluation.results import read_results
from masksearch_agent.retrieval.index import open_index
from masksearch_agent.traces.store import TraceStore

__all__ = ("Command", "Fault", "make_commands")

_SETTINGS = (
    "base_model=tiny",
    "prompts=compact",
    "world.train_entities=60",
    "world.test_entities=20",
    "world.train_questions=[{hops: 1, count: 20}, {hops: 2, count: 20}]",
    "world.test_questions=[{hops: 1, count: 8}]",
    "retrieval.mode=bm25",
    "agent.max_step_tokens=8",
    "agent.max_sampled_tokens=16",
    "agent.passages_per_search=1",
    "evaluation.bootstrap_samples=100",
    "generator.concurrency=4",
    "evaluation.concurrency=4",
    "ramp_sft={max_steps: 1, batch_size: 2, save_steps: 1}",
    "ramp_dapo={max_steps: 2, prompts_per_step: 1, group_size: 2, row_batch_size: 2, max_resampling: 1, save_steps: 1}",
)


class Fault(Exception):
    """Something is not as it has to be."""


@dataclass(frozen=True)
class Command:
    """A command that is stopped and run again."""

    name: str
    make_arguments: Callable[[Path], list[object]]
    """Of what it writes, in a folder."""
    check: Callable[[Path], None]
    """Raises `Fault` where what a stopped command left is half-written or torn."""
    read: Callable[[Path], Any]
    """What a finished command came to, to be compared."""

    def arguments(self, out: Path) -> list[object]:
        """Return the arguments that write to a folder."""
        return self.make_arguments(out)


def make_commands(base: Path, seed: int) -> list[Command]:
    """Make a world, an index, tasks and an agent, and return commands over them."""
    base.mkdir(parents=True)
    options = [part for setting in _SETTINGS for part in ("--set", setting)]

    def do(*arguments: object) -> Ended:
        ended = run([*arguments, *options], base / "log")
        if ended.code:
            raise Fault(f"`masksearch {arguments[0]}` ended with {ended.code}: {ended.output[-2000:]}")
        return ended

    world, index, tasks = base / "world", base / "index", base / "tasks.jsonl"
    do("world", "--seed", seed, "--out", world)
    do("index", world / "passages.jsonl", "--out", index)
    do("ramp", world / "train", "--index", index, "--out", tasks, "--limit", 80)
    do("generate", tasks, "--index", index, "--out", base / "traces.sqlite", "--limit", 20)
    do("sft", "--traces", base / "traces.sqlite", "--index", index, "--out", base / "agent")
    questions = world / "questions" / "qa_1hop_test.jsonl"
    return [
        Command(
            "generate",
            lambda out: [
                *(
                    "generate",
                    tasks,
                    "--index",
                    index,
                    "--out",
                    out / "traces.sqlite",
                    "--limit",
                    40,
                    *options,
                )
            ],
            _check_store,
            _read_store,
        ),
        Command(
            "index",
            lambda out: ["index", world / "passages.jsonl", "--out", out / "index", *options],
            _check_index,
            _read_index,
        ),
        Command(
            "ramp",
            lambda out: [
                *("ramp", world / "train", "--index", index, "--out", out / "tasks.jsonl", "--limit", 60),
                *options,
            ],
            lambda out: _check_lines(out / "tasks.jsonl"),
            lambda out: (out / "tasks.jsonl").read_text(),
        ),
        Command(
            "eval",
            lambda out: [
                "eval",
                "--agent",
                base / "agent",
                "--data",
                questions,
                "--out",
                out / "evals",
                *options,
            ],
            lambda out: None,  # A torn last line is cut by the next start.
            _read_answers,
        ),
        Command(
            "dapo",
            lambda out: [
                *("dapo", "--agent", base / "agent", "--tasks", tasks, "--index", index),
                *("--out", out / "agent", *options),
            ],
            lambda out: None,
            _read_training,
        ),
    ]


def _check_store(out: Path) -> None:
    path = out / "traces.sqlite"
    if not path.is_file():
        return
    with sqlite3.connect(path) as connection:
        [[said]] = connection.execute("PRAGMA integrity_check").fetchall()
    if said != "ok":
        raise Fault(f"the store is damaged: {said}")
    with TraceStore(path) as store:
        list(store.trajectories())


def _read_store(out: Path) -> Any:
    with TraceStore(out / "traces.sqlite") as store:
        attempts = Counter(trajectory.task_id for trajectory in store.trajectories("ramp"))
        if set(attempts.values()) != {1}:
            raise Fault("a task has more than one outcome")
        return sorted(trajectory.id for trajectory in store.trajectories("ramp"))


def _check_index(out: Path) -> None:
    if (out / "index" / "index.json").is_file():
        try:
            open_index(out / "index").search(["where was the founder born"], 3)
        except MaskSearchError as failure:
            raise Fault(f"the index cannot be opened: {failure}") from failure


def _read_index(out: Path) -> Any:
    builds = [entry for entry in (out / "index").iterdir() if entry.name.startswith("build-")]
    if len(builds) > 1:
        raise Fault(f"{len(builds)} builds are left in the index")
    queries = ["where was the founder born", "a river in the north", "the year of the film"]
    found = open_index(out / "index").search(queries, 5)
    return [[(hit.passage.id, round(hit.score, 6)) for hit in hits] for hits in found]


def _check_lines(path: Path) -> None:
    if path.is_file():
        for line in path.read_text().splitlines():
            try:
                json.loads(line)
            except ValueError as failure:
                raise Fault(f"{path.name} has a torn line") from failure


def _read_answers(out: Path) -> Any:
    [path] = (out / "evals").glob("*.jsonl")
    lines = [line for line in path.read_text().splitlines() if '"task_id"' in line]
    results = read_results(path)
    if len(lines) != len({result.task_id for result in results}):
        raise Fault(f"{len(lines)} results of {len({r.task_id for r in results})} questions")
    return sorted((result.task_id, result.answer, result.recall, result.stop_reason) for result in results)


def _read_training(out: Path) -> Any:
    entries = [json.loads(line) for line in (out / "agent" / "metrics.jsonl").read_text().splitlines()]
    steps = [entry["step"] for entry in entries if "loss" in entry]
    if steps != [1, 2]:
        raise Fault(f"the losses of steps {steps} are logged")
    return json.loads((out / "agent" / "masksearch.json").read_text())[
        "model_version"
    ]  # Holds a hash of the weights.
