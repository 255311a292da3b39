"""Graph runs a second at 1,024 concurrent runs, against 32.

    python benchmarks/graph_concurrency.py

The model answers at once: three searches, then the answer, so only the graph is measured. Each side is measured by
`asyncio.run`, and by `run_many`, which rollouts, generation and evaluation use: it relaxes the garbage collector and
runs on uvloop. torch, transformers and TRL are loaded, as they are in training: their objects are scanned too. The bar:
by `run_many`, 1,024 at once reach 0.90 of the runs a second of 32 at once.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from statistics import median
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from reporting import finish, make_parser, print_table
from side_by_side import Clock, add_repeats_argument, paired_ratio

import masksearch_agent.trainers.dapo  # noqa: F401
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.concurrency import run_many
from masksearch_agent.records import Passage, ScoredPassage, SearchTask
from masksearch_agent.retrieval.search import Search

BAR = 0.90
SEARCHES = 3
RUNNERS = {"asyncio.run": asyncio.run, "run_many": run_many}


class InstantChatModel(BaseChatModel):
    """Searches three times, then answers."""

    @property
    def _llm_type(self) -> str:
        return "instant"

    def _generate(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        steps = sum(isinstance(message, AIMessage) for message in messages)
        asked = f"<search> question {steps} </search>"
        text = f"<think> next </think>{asked if steps < SEARCHES else '<answer> it </answer>'}"
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        return self._generate(*args, **kwargs)


class InstantBackend:
    """Finds the same passages whatever is asked."""

    def __init__(self) -> None:
        self.hits = [
            ScoredPassage(Passage(f"p{n}", f"Title {n}", "words of it " * 20), 1.0) for n in range(5)
        ]

    def search(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        return [self.hits[:limit] for _ in queries]

    async def asearch(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        return self.search(queries, limit)


async def run_all(agent: MaskSearchAgent, runs: int, concurrent: int) -> None:
    slots = asyncio.Semaphore(concurrent)

    async def run(number: int) -> None:
        async with slots:
            task = SearchTask(f"task-{number}", "qa", f"What is number {number}?", (("it",),))
            trajectory = await agent.run_task(task)
        assert trajectory.answer == "it"
        assert len(trajectory.queries) == SEARCHES

    await asyncio.gather(*(run(number) for number in range(runs)))


def main() -> None:
    parser = make_parser(__doc__)
    add_repeats_argument(parser, 3)
    parser.add_argument("--concurrent", type=int, nargs=2, default=(32, 1024), metavar=("FEW", "MANY"))
    parser.add_argument("--runs", type=int, default=1024, help="Graph runs in each measurement.")
    arguments = parser.parse_args()
    few, many = arguments.concurrent
    agent = MaskSearchAgent(InstantChatModel(), Search(InstantBackend()))
    asyncio.run(run_all(agent, few, few))
    clocks: dict[tuple[str, int], list[Clock]] = defaultdict(list)
    for _ in range(arguments.repeats):
        for name, run in RUNNERS.items():
            for concurrent in (few, many):
                clock = Clock()
                with clock.running():
                    run(run_all(agent, arguments.runs, concurrent))
                clocks[name, concurrent].append(clock)

    rates = {
        kind: {
            key: [arguments.runs / getattr(clock, f"{kind}_s") for clock in measured]
            for key, measured in clocks.items()
        }
        for kind in ("wall", "cpu")
    }
    ratios = {
        f"{name}, {kind}": paired_ratio(rates[kind][name, many], rates[kind][name, few])
        for name in RUNNERS
        for kind in rates
    }
    print_table(
        ("run by", "runs a second of", f"{few} at once", f"{many} at once", "ratio (median of pairs)"),
        [
            (
                name,
                f"{kind} time",
                median(rates[kind][name, few]),
                median(rates[kind][name, many]),
                ratios[f"{name}, {kind}"],
            )
            for name in RUNNERS
            for kind in rates
        ],
    )
    result = {
        "runs_per_second": {
            kind: {f"{name}, {concurrent}": rate for (name, concurrent), rate in by_key.items()}
            for kind, by_key in rates.items()
        },
        "ratio": ratios,
        "bar": BAR,
    }
    reached = {kind: ratios[f"run_many, {kind}"] >= BAR for kind in rates}
    finish(arguments, result, f"bar: at least {BAR} by run_many; reached: {reached}")


if __name__ == "__main__":
    main()
