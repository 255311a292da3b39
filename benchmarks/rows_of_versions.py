"""Do rollouts train on the same tokens as in an earlier version of this library, and are they as fast?

    python benchmarks/rows_of_versions.py --before fd7804f --agent runs/quickstart/ramp_sft \\
        --tasks runs/quickstart/tasks/tasks.jsonl --passages runs/quickstart/world/passages.jsonl

An agent takes on tasks with the library as it is and as it was at a commit, which is checked out for that. Each runs
alone, because what is sampled in one batch depends on the batch, and searches with a function of this script. Compared
are the rows: ids and which of them train (equal), and log-probabilities (the largest difference). Then all are rolled
out at once, several times with each version in turn, and the tokens sampled a second are compared.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from reporting import finish, make_parser, print_table

ROOT = Path(__file__).resolve().parents[1]
BAR = 1e-5
SPEED_BAR = 1.0
BESIDE = "--only"


def record(agent: Path, tasks: Path, passages: Path, count: int, out: Path) -> None:
    """Write the rows of an agent's rollouts, and the tokens a second of all at once, with the imported library.

    Nothing beside it is imported at the top of this file that an earlier version of the library may lack.
    """
    from langchain_core.callbacks import CallbackManagerForRetrieverRun
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever

    from masksearch_agent import MaskSearchAgent
    from masksearch_agent.agent.prompts import PromptSet
    from masksearch_agent.config.agent import AgentSettings
    from masksearch_agent.models.local import LocalChatModel
    from masksearch_agent.records import Sampling, SearchTask
    from masksearch_agent.traces.rows import make_rows

    class Overlap(BaseRetriever):
        """Finds the passages that share the most words with a query."""

        passages: list[tuple[dict[str, Any], frozenset[str]]]

        def _get_relevant_documents(
            self, query: str, *, run_manager: CallbackManagerForRetrieverRun
        ) -> list[Document]:
            asked = set(query.lower().split())
            best = sorted(self.passages, key=lambda each: -len(asked & each[1]))[:5]
            return [
                Document(passage["text"], id=passage["id"], metadata={"title": passage["title"]})
                for passage, _ in best
            ]

    read = [json.loads(line) for line in passages.read_text().splitlines()]
    worded = [(each, frozenset(f"{each['title']} {each['text']}".lower().split())) for each in read]
    bundle = json.loads((agent / "masksearch.json").read_text())
    settings, prompts = (
        kind(**{name: value for name, value in bundle[key].items() if name in kind.model_fields})
        for kind, key in ((AgentSettings, "agent"), (PromptSet, "prompts"))
    )
    model = LocalChatModel.from_pretrained(agent, max_tokens=settings.max_step_tokens)
    searcher = MaskSearchAgent(model, Overlap(passages=worded), settings, prompts)
    chosen = [json.loads(line) for line in tasks.read_text().splitlines()[:count]]

    async def roll_out(asked: dict[str, Any]) -> list[Any]:
        answers = tuple(tuple(accepted) for accepted in asked["answers"])
        task = SearchTask(asked["id"], asked["kind"], asked["question"], answers)
        rows = make_rows(await searcher.run_task(task, Sampling(temperature=1.0), seed=1))
        return [[list(row.input_ids), list(row.trainable), list(row.logprobs)] for row in rows]

    async def one_by_one() -> list[Any]:
        return [await roll_out(asked) for asked in chosen]

    async def at_once() -> dict[str, float]:
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        rollouts = await asyncio.gather(*map(roll_out, chosen))
        tokens = sum(sum(row[1]) for rows in rollouts for row in rows)
        return {
            "wall": tokens / (time.perf_counter() - wall_s),
            "cpu": tokens / (time.process_time() - cpu_s),
        }

    rows = asyncio.run(one_by_one())
    out.write_text(json.dumps({"rows": rows, "tokens_per_second": asyncio.run(at_once())}))
    model.close()


def recorded_with(source: Path, arguments: list[str], folder: Path) -> dict[str, Any]:
    """Return what `record` writes with the library of a source folder."""
    out = folder / "recorded.json"
    command = [sys.executable, str(Path(__file__).resolve()), *arguments, BESIDE, str(out)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": str(source)}, check=True)
    return dict(json.loads(out.read_text()))


def compare_rows(before: list[Any], now: list[Any]) -> dict[str, Any]:
    """Print and return how many rollouts have the same rows, and how far their log-probabilities are apart."""
    same = sum(
        [row[:2] for row in old] == [row[:2] for row in new] for old, new in zip(before, now, strict=True)
    )
    differences = [
        abs(a - b)
        for old, new in zip(before, now, strict=True)
        for row, other in zip(old, new, strict=False)
        for a, b in zip(row[2], other[2], strict=False)
        if not math.isnan(a)
    ]
    sampled = sum(sum(row[1]) for rollout in now for row in rollout)
    largest = max(differences, default=math.nan)
    print_table(
        ["rollouts", "tokens that train", "of the same ids", "largest difference of log-probabilities"],
        [[len(now), sampled, same, f"{largest:.1e}"]],
    )
    return {"rollouts": len(now), "same": same, "largest_difference": largest}


def compare_speed(before: list[dict[str, float]], now: list[dict[str, float]]) -> dict[str, float]:
    """Print and return how the tokens a second of both versions compare, by wall and by processor time."""
    kinds = ("wall", "cpu")
    ratios = {
        kind: median(new[kind] / old[kind] for new, old in zip(now, before, strict=True)) for kind in kinds
    }
    print_table(
        ["tokens a second, all at once", "before", "now", "now over before (pairs)"],
        [
            [f"of {kind} time", *(median(one[kind] for one in each) for each in (before, now)), ratios[kind]]
            for kind in kinds
        ],
    )
    return ratios


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--before", required=True, help="Commit of the earlier version.")
    parser.add_argument("--agent", type=Path, required=True, help="Bundle.")
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--passages", type=Path, required=True)
    parser.add_argument("--count", type=int, default=100, help="Rollouts.")
    parser.add_argument("--repeats", type=int, default=3, help="Measurements of each version's speed.")
    parser.add_argument(
        BESIDE, type=Path, help="Write the rows of the library that is imported, and nothing else."
    )
    arguments = parser.parse_args()
    if arguments.only is not None:
        record(arguments.agent, arguments.tasks, arguments.passages, arguments.count, arguments.only)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        earlier = Path(folder) / "earlier"
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", arguments.before, "src"], check=True, stdout=subprocess.PIPE
        )
        earlier.mkdir()
        subprocess.run(["tar", "x", "-C", str(earlier)], input=archive.stdout, check=True)
        pairs = [
            tuple(
                recorded_with(source, sys.argv[1:], Path(folder))
                for source in (earlier / "src", ROOT / "src")
            )
            for _ in range(arguments.repeats)
        ]
    rows = compare_rows(*(one["rows"] for one in pairs[0]))
    ratios = compare_speed(*([one["tokens_per_second"] for one in each] for each in zip(*pairs, strict=True)))
    is_same = rows["same"] == rows["rollouts"] and rows["largest_difference"] <= BAR
    is_as_fast = ratios["cpu"] >= SPEED_BAR
    verdict = (
        f"{rows['same']} of {rows['rollouts']} the same; bar: all, and log-probabilities within {BAR:g}; "
        f"{ratios['cpu']:.2f} times the tokens a second of processor time; bar: {SPEED_BAR:g}"
    )
    finish(arguments, {**rows, "speed": ratios}, verdict)
    return 0 if is_same and is_as_fast else 1


if __name__ == "__main__":
    sys.exit(main())
