"""Train on real text for as long as there is time: RAMP, questions, DAPO; and ask the development questions after each.

    python training/gpu_real_run.py --data brought/data --model runs/models/smollm2-135m --seconds 360 --json real.json
    python training/gpu_real_run.py --small --json real.json

`training/gpu_transfer.sh` makes the folder of data. How many steps a stage takes is measured: a few steps before it say
what one costs. With `--small` the tiny base model learns from a closed world that is made on the spot, a few steps a
stage: it shows that the run is whole. What was measured is written after each stage.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
from pathlib import Path
from typing import Any

from masksearch_agent.cli.application import app

RECIPE = Path(__file__).with_name("gpu_smollm2.yaml")
SHARES = {"ramp_sft": 0.4, "qa_sft": 0.25, "qa_dapo": 0.2}
"""Of the seconds; the rest is for the questions and for loading."""
PROBE_STEPS = {"ramp_sft": (5, 25), "qa_sft": (5, 25), "qa_dapo": (1, 3)}
MOST_STEPS = 4000
_SMALL = (
    "base_model=tiny", "prompts=compact", "retrieval.mode=bm25",
    "world={train_entities: 40, test_entities: 20, train_questions: [{hops: 1, count: 20}]}",
    "world.test_questions=[{hops: 1, count: 4}]", "world.test_ramp_tasks=4",
    "agent={answer_form: bare_fills, max_step_tokens: 12, max_sampled_tokens: 24, passages_per_search: 2}",
    # Nobody is right after a few steps, so that only lengths tell rollouts apart.
    "rewards={overlong_max_tokens: 24, overlong_cache_tokens: 24}",
    "ramp_sft={max_steps: 2, batch_size: 2}", "qa_sft={max_steps: 2, batch_size: 2, ramp_share: 0.25}",
    "qa_dapo={max_steps: 1, prompts_per_step: 2, group_size: 2, row_batch_size: 4, dynamic_sampling: false}",
)  # fmt: skip


class Run:
    """The commands of a run and what they told."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.small: bool = arguments.small
        self.seconds: float = arguments.seconds
        self.out: Path = arguments.out
        self.json: Path | None = arguments.json
        self.started = time.perf_counter()
        self.found: dict[str, Any] = {"seconds": self.seconds, "stages": [], "scores": []}
        options = [f"base_model={arguments.model}"] if arguments.model else []
        self.options = [
            part for one in (*(_SMALL if self.small else ()), *options) for part in ("--set", one)
        ]
        self.recipe = [] if self.small else ["--recipe", str(RECIPE)]

    def do(self, *command: object) -> dict[str, Any]:
        """Run a `masksearch` command in this process and return what it printed."""
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            app([*map(str, command), *self.recipe, *self.options, "--json"], standalone_mode=False)
        return dict(json.loads(told.getvalue()))

    def write(self) -> None:
        """Write what was measured so far."""
        if self.json is not None:
            self.json.parent.mkdir(parents=True, exist_ok=True)
            self.json.write_text(json.dumps(self.found, indent=2) + "\n", encoding="utf-8")

    def train(self, stage: str, *command: object) -> Path:
        """Train a stage for its share of the time."""
        steps = None if self.small else self._steps(stage, *command)
        chosen = ("--set", f"{stage}.max_steps={steps}") if steps else ()
        started = time.perf_counter()
        spent = self.do(*command, "--out", self.out / stage, *chosen)
        took = time.perf_counter() - started
        self.found["stages"].append({"stage": stage, "seconds": took, **spent, "agent": stage})
        self.write()
        return self.out / stage

    def _steps(self, stage: str, *command: object) -> int:
        seconds = []
        for steps in PROBE_STEPS[stage]:
            started = time.perf_counter()
            folder = self.out / f"probe_{stage}_{steps}"
            self.do(*command, "--out", folder, "--set", f"{stage}.max_steps={steps}")
            seconds.append(time.perf_counter() - started)
        fewer, more = PROBE_STEPS[stage]
        a_step = max(1e-3, (seconds[1] - seconds[0]) / (more - fewer))
        wanted = self.seconds * SHARES[stage] - sum(seconds)
        return max(more, min(MOST_STEPS, int(wanted / a_step)))

    def ask(self, agent: Path, stage: str, questions: dict[Path, Path]) -> None:
        """Ask every development file, each from the index of its own passages."""
        for file, index in questions.items():
            for name, scores in self.do("eval", "--agent", agent, "--data", file, "--index", index).items():
                row = {"stage": stage, "questions": name, **scores}
                self.found["scores"].append(row)
        self.write()


def small_data(run: Run) -> Path:
    """Make a closed world, and of it what `gpu_transfer.sh` makes of real text."""
    data = run.out / "data"
    run.do("world", "--seed", 3, "--out", data)
    run.do("index", data / "passages.jsonl", "--out", run.out / "index")
    run.do("ramp", data / "train", "--index", run.out / "index", "--out", data / "ramp.jsonl", "--limit", 40)
    (data / "questions" / "qa_train.jsonl").replace(data / "tasks.jsonl")
    for stage, tasks in (("ramp", data / "ramp.jsonl"), ("qa", data / "tasks.jsonl")):
        traces = ("--index", run.out / "index", "--out", data / "traces.sqlite")
        run.do("generate", tasks, *traces, "--stage", stage)
    (data / "dev").mkdir()
    (data / "questions" / "qa_1hop_test.jsonl").replace(data / "dev" / "qa_1hop.jsonl")
    return data


def open_indexes(run: Run, data: Path) -> dict[Path, Path]:
    """Index what is searched while training, and return each development file with the index of its own passages."""
    files = sorted((data / "dev").iterdir())
    if run.small:  # A closed world's questions are all asked of the one index.
        return dict.fromkeys(files, run.out / "index")
    run.do("index", data / "passages.jsonl.gz", "--out", run.out / "index")
    indexes = {file: run.out / f"{file.stem}_index" for file in files}
    for file, index in indexes.items():
        run.do("index", file, "--out", index)
    return indexes


def main() -> None:
    """Train the three stages, and ask after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="What gpu_transfer.sh made.")
    parser.add_argument("--model", type=Path, help="The checkpoint; that of the recipe where none is named.")
    parser.add_argument("--seconds", type=float, default=360.0, help="For all of it.")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/gpu_real"), help="Folder of the agents; a new one."
    )
    parser.add_argument("--json", type=Path, help="Write what was measured to this file.")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    if arguments.data is None and not arguments.small:
        parser.error("pass --data, the folder that training/gpu_transfer.sh made; or --small")
    run = Run(arguments)
    data = small_data(run) if run.small else arguments.data
    questions = open_indexes(run, data)
    traces = ("--traces", data / "traces.sqlite")
    agent = run.train("ramp_sft", "sft", *traces, "--index", run.out / "index")
    run.ask(agent, "ramp_sft", questions)
    agent = run.train("qa_sft", "sft", "--use", "qa_sft", "--agent", agent, *traces)
    run.ask(agent, "qa_sft", questions)
    agent = run.train(
        "qa_dapo", "dapo", "--use", "qa_dapo", "--agent", agent, "--tasks", data / "tasks.jsonl"
    )
    run.ask(agent, "qa_dapo", questions)
    run.found["total_seconds"] = time.perf_counter() - run.started
    run.write()


if __name__ == "__main__":
    main()
