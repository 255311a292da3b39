"""Self-evolution as a LangGraph graph: the student trained on accepted trajectories teaches the next one.

    teach -> merge -> train -> evaluate -> sample -> merge -> …
                                  |           |
                                  '-> end     '-> end

`teach` has the teacher work on the first tasks, `sample` the last student on new ones; both judge each trajectory as
it ends. `merge` adds what was accepted to what the rounds before had, and `train` makes a student of all of it. It
ends where held-out recall stops rising (MaskSearch, arXiv 2505.20285, section 3.1, "self-evolve distillation"), where
no task is left, or where the judge accepts nothing new.

What a round does is passed in (`RoundSteps`): this room comes before the trainers. The steps find what an earlier,
killed run left, so a graph that is started again from the beginning goes on where that one was.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, Protocol

from langgraph.graph import END, START, StateGraph
from typing_extensions import TypedDict

from masksearch_agent.config.evolution import EvolutionSettings
from masksearch_agent.records import Trajectory

__all__ = (
    "EvolutionState",
    "Generated",
    "RoundScore",
    "RoundSteps",
    "best_round",
    "build_evolution_graph",
    "merge_accepted",
)

EvolutionEnd = Literal["max_rounds", "no_rise", "no_new_tasks", "nothing_accepted"]
"""Why it ended: all rounds are done, held-out recall stopped rising, every task was used, or the judge accepted none
of the student's trajectories, so that another round would train on what the last one did."""


@dataclass(frozen=True, slots=True)
class Generated:
    """What a round generated."""

    tasks: int
    """Tasks that were worked on."""
    accepted: int
    """Trajectories that the judge accepted."""


class RoundSteps(Protocol):
    """What a round does. Each step is done once: called again, it finds its result and returns the same.

    Rounds count from 1, the teacher's.
    """

    def teach(self) -> Generated:
        """Have the teacher work on the tasks of the first round."""

    def sample(self, round_number: int) -> Generated:
        """Have the student of the round before work on new tasks."""

    def merge(self, round_number: int) -> int:
        """Put what all rounds so far accepted together; return the number of trajectories."""

    def train(self, round_number: int) -> None:
        """Make the round's student of the merged trajectories."""

    def evaluate(self, round_number: int) -> float:
        """Return the held-out recall of the round's student, from 0 to 1."""


class RoundScore(TypedDict):
    """A finished round."""

    round: int
    accepted: int
    trained_on: int
    """Trajectories, those of earlier rounds included."""
    recall: float
    """Held out."""


class EvolutionState(TypedDict, total=False):
    """Working state; plain data, so any checkpointer can store it. A run starts from `{}`."""

    round: int
    accepted: int
    """Trajectories accepted in this round."""
    trained_on: int
    rounds: list[RoundScore]
    """The finished ones."""
    best_round: int
    stop_reason: EvolutionEnd | None
    """None while it goes on."""


def best_round(recalls: list[float], min_rise: float) -> int:
    """Return the number (from 1) of the last round that rose by more than `min_rise` above the best before it."""
    best = 0
    for index, recall in enumerate(recalls):
        if recall > recalls[best] + min_rise:
            best = index
    return best + 1


def build_evolution_graph(
    steps: RoundSteps, settings: EvolutionSettings | None = None
) -> StateGraph[EvolutionState, None, EvolutionState, EvolutionState]:
    """Build the graph. Run it with a `recursion_limit` of at least four steps a round."""
    nodes = _Nodes(steps, settings or EvolutionSettings())
    graph = StateGraph(EvolutionState)
    graph.add_node("teach", nodes.teach)
    graph.add_node("sample", nodes.sample)
    graph.add_sequence([("merge", nodes.merge), ("train", nodes.train), ("evaluate", nodes.evaluate)])
    graph.add_edge(START, "teach")
    graph.add_edge("teach", "merge")
    graph.add_conditional_edges(
        "evaluate", lambda state: END if state["stop_reason"] else "sample", ["sample", END]
    )
    graph.add_conditional_edges(
        "sample", lambda state: END if state["stop_reason"] else "merge", ["merge", END]
    )
    return graph


def merge_accepted(rounds: Iterable[Iterable[Trajectory]]) -> list[Trajectory]:
    """Return the accepted trajectories of all rounds, one a task: the first one, so that rounds only add."""
    first_of_task: dict[str, Trajectory] = {}
    for trajectory in chain.from_iterable(rounds):
        if trajectory.accepted:
            first_of_task.setdefault(trajectory.task_id, trajectory)
    return list(first_of_task.values())


@dataclass(frozen=True)
class _Nodes:
    steps: RoundSteps
    settings: EvolutionSettings

    def teach(self, state: EvolutionState) -> dict[str, Any]:
        generated = self.steps.teach()
        return {"round": 1, "accepted": generated.accepted, "rounds": [], "stop_reason": None}

    def sample(self, state: EvolutionState) -> dict[str, Any]:
        number = state["round"] + 1
        generated = self.steps.sample(number)
        stop_reason: EvolutionEnd | None = None
        if not generated.accepted:
            stop_reason = "nothing_accepted" if generated.tasks else "no_new_tasks"
        return {"round": number, "accepted": generated.accepted, "stop_reason": stop_reason}

    def merge(self, state: EvolutionState) -> dict[str, Any]:
        return {"trained_on": self.steps.merge(state["round"])}

    def train(self, state: EvolutionState) -> None:
        self.steps.train(state["round"])

    def evaluate(self, state: EvolutionState) -> dict[str, Any]:
        """Measure the round's student, and decide whether to go on."""
        number = state["round"]
        score = RoundScore(
            round=number,
            accepted=state["accepted"],
            trained_on=state["trained_on"],
            recall=self.steps.evaluate(number),
        )
        rounds = [*state["rounds"], score]
        best = best_round([finished["recall"] for finished in rounds], self.settings.min_rise)
        stop_reason: EvolutionEnd | None = None
        if len(rounds) - best >= self.settings.patience:
            stop_reason = "no_rise"
        elif len(rounds) >= self.settings.max_rounds:
            stop_reason = "max_rounds"
        return {"rounds": rounds, "best_round": best, "stop_reason": stop_reason}
