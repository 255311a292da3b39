from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from masksearch_agent.config.evolution import EvolutionSettings
from masksearch_agent.generator.evolution import Generated, best_round, build_evolution_graph, merge_accepted
from masksearch_agent.records import Trajectory


@dataclass
class ScriptedRounds:
    """Rounds with fixed results; notes what it is asked to do."""

    recalls: list[float]
    generated: dict[int, Generated] = field(default_factory=dict)
    killed_at: str = ""
    done: list[str] = field(default_factory=list)

    def teach(self) -> Generated:
        return self._note("teach 1", Generated(10, 8))

    def sample(self, round_number: int) -> Generated:
        return self._note(f"sample {round_number}", self.generated.get(round_number, Generated(20, 5)))

    def merge(self, round_number: int) -> int:
        return self._note(f"merge {round_number}", 8 + 5 * (round_number - 1))

    def train(self, round_number: int) -> None:
        self._note(f"train {round_number}", None)

    def evaluate(self, round_number: int) -> float:
        return self._note(f"evaluate {round_number}", self.recalls[round_number - 1])

    def _note(self, step: str, result: Any) -> Any:
        if step == self.killed_at:
            self.killed_at = ""
            raise KeyboardInterrupt
        self.done.append(step)
        return result


def evolve(rounds: ScriptedRounds, **settings: Any) -> dict[str, Any]:
    return build_evolution_graph(rounds, EvolutionSettings(**settings)).compile().invoke({})


def test_a_round_generates_merges_trains_and_evaluates_before_the_next_one() -> None:
    rounds = ScriptedRounds([0.2, 0.4])
    state = evolve(rounds, max_rounds=2)
    assert rounds.done == [
        *("teach 1", "merge 1", "train 1", "evaluate 1"),
        *("sample 2", "merge 2", "train 2", "evaluate 2"),
    ]
    assert state["rounds"] == [
        {"round": 1, "accepted": 8, "trained_on": 8, "recall": 0.2},
        {"round": 2, "accepted": 5, "trained_on": 13, "recall": 0.4},
    ]
    assert (state["stop_reason"], state["best_round"]) == ("max_rounds", 2)


@pytest.mark.parametrize(
    ("recalls", "settings", "rounds", "best", "reason"),
    [
        ([0.3, 0.5, 0.5, 0.9], {}, 3, 2, "no_rise"),
        ([0.3, 0.2, 0.9], {}, 2, 1, "no_rise"),
        ([0.3, 0.2, 0.9, 0.8, 0.7, 1.0], {"patience": 2}, 5, 3, "no_rise"),
        ([0.3, 0.35, 0.9], {"min_rise": 0.1}, 2, 1, "no_rise"),
        ([0.3, 0.5, 0.6, 0.7], {"max_rounds": 3}, 3, 3, "max_rounds"),
        ([0.0], {"max_rounds": 1}, 1, 1, "max_rounds"),
    ],
)
def test_it_stops_where_held_out_recall_stops_rising(
    recalls: list[float], settings: dict[str, Any], rounds: int, best: int, reason: str
) -> None:
    scripted = ScriptedRounds(recalls)
    state = evolve(scripted, **{"max_rounds": 9, **settings})
    assert [score["recall"] for score in state["rounds"]] == recalls[:rounds]
    assert (state["best_round"], state["stop_reason"]) == (best, reason)
    assert f"sample {rounds + 1}" not in scripted.done


@pytest.mark.parametrize(
    ("second", "reason"), [(Generated(0, 0), "no_new_tasks"), (Generated(20, 0), "nothing_accepted")]
)
def test_nothing_is_trained_where_there_is_nothing_new(second: Generated, reason: str) -> None:
    rounds = ScriptedRounds([0.2, 0.4], {2: second})
    state = evolve(rounds)
    assert rounds.done[-1] == "sample 2"
    assert (state["stop_reason"], state["best_round"], len(state["rounds"])) == (reason, 1, 1)


@pytest.mark.parametrize("killed_at", ["teach 1", "train 1", "sample 2", "merge 2", "train 2", "evaluate 2"])
def test_with_a_checkpointer_it_goes_on_at_the_step_that_was_killed(killed_at: str) -> None:
    rounds, undisturbed = (
        ScriptedRounds([0.2, 0.4, 0.3], killed_at=killed_at),
        ScriptedRounds([0.2, 0.4, 0.3]),
    )
    graph = build_evolution_graph(rounds, EvolutionSettings()).compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    with pytest.raises(KeyboardInterrupt):
        graph.invoke({}, config)
    assert graph.invoke(None, config) == evolve(undisturbed)
    assert rounds.done == undisturbed.done


def test_ties_do_not_move_the_best_round() -> None:
    assert best_round([0.5, 0.5, 0.4, 0.5], EvolutionSettings().min_rise) == 1


def trajectory(name: str, task: str, accepted: bool | None) -> Trajectory:
    return Trajectory(name, task, (), "a", "answered", accepted=accepted)


def test_merging_takes_one_accepted_trajectory_a_task_and_the_earliest() -> None:
    first = [trajectory("1a", "A", True), trajectory("1b", "B", False), trajectory("1c", "C", None)]
    second = [trajectory("2b", "B", True), trajectory("2a", "A", True), trajectory("2b again", "B", True)]
    assert [t.id for t in merge_accepted([first, second])] == ["1a", "2b"]
    assert merge_accepted([first, second, first, second]) == merge_accepted([first, second])
