"""Prompt tokens that the local engine reads, and what it saves to keep what was read.

    python benchmarks/tokens_read.py --model runs/models/smollm2-135m --traces runs/laptop/traces.sqlite
    python benchmarks/tokens_read.py --model … --traces … --rollouts 16 --group-size 1

Takes the conversations of accepted RAMP trajectories: what each turn was shown, and how many tokens were written then.
The engine samples as many of its own, and each turn goes on from them. The rollouts of a group are of one task, as in
DAPO; groups of one are an evaluation. Both engines are asked the same, in turn: one keeps what it read, the other (`0
bytes`) reads every prompt as a whole. `read` is prompt tokens over the distinct tokens of the rollouts' trace trees;
padding does not count. The bar: at most 1.1 where it is kept.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from reporting import finish, make_parser, print_table
from side_by_side import Clock, add_repeats_argument, paired_ratio

from masksearch_agent.models.chat_format import ChatFormat
from masksearch_agent.models.engine import BatchingEngine
from masksearch_agent.models.local import load_checkpoint
from masksearch_agent.records import Sampling, Turn
from masksearch_agent.traces.rows import tokenise
from masksearch_agent.traces.store import TraceStore

BAR = 1.1
NO_TOKEN = -1


class Replay:
    """Rollouts that take as many turns, and are shown as much in each, as given ones; all at once."""

    def __init__(self, engine: BatchingEngine, rollouts: Sequence[Sequence[Turn]], seed: int) -> None:
        self.engine = engine
        self.rollouts = rollouts
        self.seed = seed
        self.open = len(rollouts)
        self.is_done = threading.Event()
        self.failures: list[BaseException] = []

    def run(self) -> None:
        for number in range(len(self.rollouts)):
            self.send(number, 0, [])
        self.is_done.wait()
        if self.failures:
            raise self.failures[0]

    def send(self, number: int, place: int, so_far: list[int]) -> None:
        turns = self.rollouts[number]
        prompt = [*so_far, *turns[place].context_ids]
        count = len(turns[place].sampled_ids)
        sampling = Sampling(temperature=1.0, max_tokens=count, seed=self.seed + number)

        def go_on(future: Future[Any]) -> None:
            failure = future.exception()
            if failure is None and place + 1 < len(turns):
                self.send(number, place + 1, [*prompt, *future.result().ids])
                return
            if failure is not None:
                self.failures.append(failure)
            self.open -= 1
            if not self.open:
                self.is_done.set()

        self.engine.submit(prompt, sampling).add_done_callback(go_on)


def conversations(traces: Path, encoder: ChatFormat, count: int) -> list[tuple[Turn, ...]]:
    """Return the turns of trajectories that search before they answer."""
    with TraceStore(traces) as store:
        several = (one.turns for one in store.trajectories("ramp", accepted=True) if len(one.turns) > 1)
        found = [tokenise(turns, encoder) for turns in islice(several, count)]
    if len(found) < count:
        raise SystemExit(f"{traces} has {len(found)} conversations of several turns; expected {count}")
    return found


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="Causal language model.")
    parser.add_argument("--traces", type=Path, required=True, help="Trace store with RAMP trajectories.")
    parser.add_argument("--rollouts", type=int, default=64, help="At once.")
    parser.add_argument("--group-size", type=int, default=8, help="Rollouts of one task.")
    add_repeats_argument(parser, default=3)
    arguments = parser.parse_args()
    model, tokenizer = load_checkpoint(arguments.model)
    groups = arguments.rollouts // arguments.group_size
    tasks = conversations(arguments.traces, ChatFormat(tokenizer), groups * arguments.repeats)
    engines = {
        "kept": BatchingEngine(model, tokenizer, NO_TOKEN),
        "0 bytes": BatchingEngine(model, tokenizer, NO_TOKEN, kept_bytes=0),
    }
    measured: dict[str, dict[str, list[float]]] = {
        name: {"read": [], "wall": [], "cpu": []} for name in engines
    }
    sampled = []
    for repeat in range(arguments.repeats):
        of_one = tasks[repeat * groups : (repeat + 1) * groups]
        rollouts = [turns for turns in of_one for _ in range(arguments.group_size)]
        shown = sum(len(turn.context_ids) for turns in rollouts for turn in turns)
        sampled.append(sum(len(turn.sampled_ids) for turns in rollouts for turn in turns))
        for name, engine in engines.items():
            clock, read = Clock(), engine.prompt_tokens_read
            with clock.running():
                Replay(engine, rollouts, arguments.seed * 1000 + repeat).run()
            measured[name]["read"].append((engine.prompt_tokens_read - read) / (shown + sampled[-1]))
            measured[name]["wall"].append(sampled[-1] / clock.wall_s)
            measured[name]["cpu"].append(sampled[-1] / clock.cpu_s)
    for engine in engines.values():
        engine.close()

    print_table(
        ("engine", "read", "sampled tokens a second of wall time", "of processor time"),
        [(name, *(median(values) for values in one.values())) for name, one in measured.items()],
    )
    faster = {
        kind: paired_ratio(measured["kept"][kind], measured["0 bytes"][kind]) for kind in ("wall", "cpu")
    }
    read = median(measured["kept"]["read"])
    result = {"measured": measured, "sampled": sampled, "ratio": faster, "bar": BAR}
    verdict = f"bar: read at most {BAR}; reached: {read <= BAR}; tokens a second, median of pairs: {faster}"
    finish(arguments, result, verdict)


if __name__ == "__main__":
    main()
