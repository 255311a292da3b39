"""`masksearch dapo` in processes that search at their own pace, of which some are killed and started again.

Usage: `dapo_reproducible.py DIRECTORY`; the exit codes of the processes go to `exits.json`. Each of them is a fork, so
that nothing is imported twice.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from fakes.passages import make_passages
from fakes.tiny_models import LINES, make_test_model, make_test_tokenizer

from masksearch_agent.agent.bundle import BundleInfo, save_bundle
from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.protocol import PROTOCOL_VERSION
from masksearch_agent.cli import main as run_command
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.jsonl import dump_record
from masksearch_agent.plugins import REWARDS
from masksearch_agent.records import MASK, SearchTask, Trajectory
from masksearch_agent.retrieval.search import Search
from masksearch_agent.trainers import dapo, exam  # noqa: F401 (imported before there are forks)

STEPS = 5
SETTINGS = (
    "retrieval.mode=bm25",
    "rewards.answer=luck",
    f"ramp_dapo={{max_steps: {STEPS}, prompts_per_step: 3, group_size: 4, row_batch_size: 4, max_resampling: 2}}",
    "ramp_dapo.save_steps=2",
    "ramp_dapo.updates_per_rollout=1",
    "ramp_dapo.optimizer={learning_rate: 1.0e-2, schedule: linear}",
    "ramp_dapo.monitor={every_steps: 2, tasks: 4}",
)


def luck(settings: Any) -> Any:
    """Reward even first tokens, so that some groups are of use."""

    def score(task: SearchTask, trajectory: Trajectory) -> float:
        return float(trajectory.turns[0].sampled_ids[0] % 2 == 0)

    return score


def search_at_ones_own_pace(number: int) -> None:
    """Have each search take a time that no other run has."""
    pace, search = random.Random(number), Search.asearch

    async def slowly(self: Search, *given: Any) -> Any:
        await asyncio.sleep(pace.random() * 0.02)
        return await search(self, *given)

    Search.asearch = slowly  # type: ignore[method-assign]


def train(directory: Path, number: int, settings: tuple[str, ...]) -> None:
    REWARDS.register("luck", luck)
    search_at_ones_own_pace(number)
    options = [part for one in (*SETTINGS, *settings) for part in ("--set", one)]
    files = ("--agent", "agent", "--tasks", "tasks.jsonl", "--index", "index", "--exam", "exam.jsonl")
    sys.argv = ["masksearch", "dapo", *files, "--out", str(directory), *options]
    run_command()


def start(directory: Path, number: int, *settings: str, dies_after_lines: int | None = None) -> int | None:
    """Run to the end, or until the file of metrics has so many lines."""
    process = multiprocessing.get_context("fork").Process(target=train, args=(directory, number, settings))
    process.start()
    metrics = directory / "metrics.jsonl"
    while dies_after_lines is not None and process.is_alive():
        if metrics.is_file() and len(metrics.read_text().splitlines()) >= dies_after_lines:
            os.kill(process.pid or 0, signal.SIGKILL)
        time.sleep(0.01)
    process.join()
    return process.exitcode


def write_files() -> None:
    tokenizer = make_test_tokenizer()
    limits = AgentSettings(max_searches=2, passages_per_search=1, max_repairs=1, max_step_tokens=8)
    info = BundleInfo(
        protocol_version=PROTOCOL_VERSION, prompts=COMPACT_PROMPTS, agent=limits, model_version="tiny"
    )
    save_bundle(make_test_model(tokenizer), tokenizer, info, Path("agent"))
    passages = "".join(json.dumps(dump_record(one)) + "\n" for one in make_passages(*LINES))
    Path("passages.jsonl").write_text(passages)
    tasks = [SearchTask(str(n), "ramp", f"{LINES[n]} {MASK}", (("x",),)) for n in range(12)]
    for name, some in (("tasks", tasks[:8]), ("exam", tasks[8:])):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(dump_record(one)) + "\n" for one in some))
    sys.argv = ["masksearch", "index", "passages.jsonl", "--out", "index", "--set", "retrieval.mode=bm25"]
    run_command()


def run_forked(work: Any) -> None:
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == 0


def main(directory: Path) -> None:
    os.chdir(directory)
    run_forked(write_files)
    exits = [start(Path("one"), 1), start(Path("other"), 2)]
    exits += [start(Path("killed"), 3 + lines, dies_after_lines=lines) for lines in (2, 4, 6)]
    exits.append(start(Path("killed"), 9))
    if "--control" in sys.argv:
        exits += [start(Path(f"free{n}"), n, "rollouts.reproducible=false") for n in (1, 2)]
    Path("exits.json").write_text(json.dumps(exits))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
