"""How fast the hindsight teacher makes trajectories in one process, against LangGraph doing nothing.

    python benchmarks/hindsight_speed.py

RAMP tasks of a closed world, BM25, trajectories stored in SQLite as they finish. The limit is LangGraph's own overhead:
graphs of the same nodes and edges that do nothing, run for the same rounds at the same concurrency; once with the
parallel branch per query that the generator has (`Send`), once without. The claim is at least half of the limit. Shares
are taken by CPU time, of all threads, so that other work on the machine does not decide.
"""

from __future__ import annotations

import asyncio
import operator
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any, TypeVar

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from reporting import finish_rows, make_parser
from typing_extensions import TypedDict

from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.generator import GeneratorSettings
from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.generator.runner import TrajectoryGenerator
from masksearch_agent.lab.closed_world import make_world
from masksearch_agent.ramp.spans import FactSpanExtractor
from masksearch_agent.ramp.tasks import build_ramp_tasks
from masksearch_agent.records import SearchTask, Trajectory
from masksearch_agent.retrieval.backends import SearchBackend
from masksearch_agent.retrieval.index import build_index, open_index
from masksearch_agent.retrieval.search import Search
from masksearch_agent.traces.store import TraceStore

T = TypeVar("T")
OURS = "hindsight teacher"


class State(TypedDict, total=False):
    wanted_rounds: int
    rounds: int
    results: Annotated[list[int], operator.add]


def make_idle_graph(has_branches: bool) -> Any:
    """Return the generator's graph with nodes that do nothing; `wanted_rounds` says how long it runs."""

    async def idle(state: State) -> dict[str, Any]:
        return {}

    async def search(state: State) -> dict[str, Any]:
        return {"results": [1]}

    async def observe(state: State) -> dict[str, Any]:
        return {"rounds": state.get("rounds", 0) + 1}

    async def after_plan(state: State) -> str:
        return "rewrite"

    async def fan_out(state: State) -> list[Send] | str:
        return [Send("search", {})] if has_branches else "search"

    async def after_observe(state: State) -> str:
        return "judge" if state["rounds"] >= state["wanted_rounds"] else "plan"

    graph = StateGraph(State)
    for name, node in (
        ("plan", idle),
        ("rewrite", idle),
        ("search", search),
        ("observe", observe),
        ("judge", idle),
    ):
        graph.add_node(name, node)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", after_plan, ["rewrite", "judge"])
    graph.add_conditional_edges("rewrite", fan_out, ["search", "judge"])
    graph.add_edge("search", "observe")
    graph.add_conditional_edges("observe", after_observe, ["plan", "judge"])
    graph.add_edge("judge", END)
    return graph.compile().with_config(recursion_limit=100)


async def run_idle(graph: Any, rounds: Sequence[int], concurrency: int) -> None:
    """Run the graph once per trajectory, `concurrency` at once."""
    pending: set[asyncio.Task[Any]] = set()
    for wanted in rounds:
        pending.add(asyncio.create_task(graph.ainvoke({"wanted_rounds": wanted})))
        if len(pending) >= concurrency:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.gather(*pending)


def count_rounds(rounds: list[int], made: Trajectory) -> None:
    rounds.append(len(made.queries))


def make_tasks(seed: int, count: int, folder: Path) -> tuple[list[SearchTask], SearchBackend]:
    world = make_world(seed, train_entities=400, test_entities=15)
    build_index(world.passages, folder / "bm25", RetrievalSettings(mode="bm25"))
    index = open_index(folder / "bm25")
    spans = FactSpanExtractor(world.mentions).extract(world.passages)
    tasks = list(build_ramp_tasks(spans, None, RampSettings(seed=seed)))
    return tasks[:count], index


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=GeneratorSettings().concurrency)
    parser.add_argument("--repeats", type=int, default=3, help="The median of so many is shown.")
    arguments = parser.parse_args()
    wall_s: dict[str, list[float]] = {}
    cpu_s: dict[str, list[float]] = {}

    def measure(name: str, work: Callable[[], T]) -> T:
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        wall_s.setdefault(name, []).append(time.perf_counter() - wall)
        cpu_s.setdefault(name, []).append(time.process_time() - cpu)
        return result

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tasks, index = make_tasks(arguments.seed, arguments.tasks, folder)
        settings = GeneratorSettings(concurrency=arguments.concurrency, seed=arguments.seed)
        for repeat in range(arguments.repeats):
            # The cache of an earlier search would answer the queries.
            generator = TrajectoryGenerator(Search(index), COMPACT_PROMPTS, AgentSettings(), settings)
            rounds: list[int] = []
            with TraceStore(folder / f"{repeat}.sqlite") as store:
                report = measure(
                    OURS, partial(generator.run, tasks, store, "ramp", partial(count_rounds, rounds))
                )
            for name, has_branches in (("idle, a branch per query", True), ("idle, no branches", False)):
                idle = partial(run_idle, make_idle_graph(has_branches), rounds, arguments.concurrency)
                measure(name, lambda idle=idle: asyncio.run(idle()))
    steps = sum(4 * count + 1 for count in rounds)
    rows = [
        {
            "what": name,
            "trajectories/s": len(tasks) / median(wall_s[name]),
            "trajectories/CPU s": len(tasks) / median(cpu_s[name]),
            "node steps/CPU s": steps / median(cpu_s[name]),
            "ours as a share of it": median(cpu_s[name]) / median(cpu_s[OURS]),
        }
        for name in wall_s
    ]
    finish_rows(
        arguments,
        rows,
        f"{len(tasks)} tasks, {report.accepted} accepted, {steps} node steps, concurrency {arguments.concurrency}",
    )


if __name__ == "__main__":
    main()
