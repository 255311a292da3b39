"""How likely a task's next group is to be of use, from what became of groups so far.

Dynamic sampling throws away what it sampled for groups of equal rewards. So it draws as many tasks as are likely to
make the batch full, none that is solved, and the others in proportion to how likely they are to be of use. A task that
was rolled out before is judged by what usually becomes of tasks of its last fate, another one by what becomes of its
sort; both over the last groups only, since the policy changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ("Prospects",)

_WINDOW = 64
"""Groups of a kind of tasks that its rate is taken over."""
_SOLVED = "all_right"
_HOPELESS = "all_wrong"


class Prospects:
    """Counts groups; the tasks are named by their places in the list that is drawn from.

    Args:
        sorts: What kind of task each is, before anything is known of it.
    """

    def __init__(self, sorts: Sequence[str]) -> None:
        self._sorts = sorts
        self._fates: dict[int, str] = {}
        """Of the last group of each task that was rolled out."""
        self._useful: dict[str, deque[bool]] = {}
        """Of the last groups of each kind of tasks: whether they were of use."""

    def likelihood(self, task: int) -> float:
        """Return how likely a group is to be of use; what nobody has tried yet is."""
        return self._rate(self._kind(task))

    def chance(self, task: int) -> float:
        """Return with which probability the task is to be drawn: its likelihood over that of the best kind."""
        best = max(map(self._rate, self._useful), default=1.0)
        return min(1.0, self.likelihood(task) / best)

    def is_solved(self, task: int) -> bool:
        """Whether all rollouts of its last group were right."""
        return self._fates.get(task) == _SOLVED

    def is_hopeless(self, task: int) -> bool:
        """Whether all rollouts of its last group were wrong."""
        return self._fates.get(task) == _HOPELESS

    def observe(self, task: int, fate: str) -> None:
        """Note what became of a group; one that could not be scored says nothing."""
        if fate == "unscorable":
            return
        self._useful.setdefault(self._kind(task), deque(maxlen=_WINDOW)).append(fate == "useful")
        self._fates[task] = fate

    def forget_solved(self) -> None:
        """Take solved tasks for new ones."""
        self._fates = {task: fate for task, fate in self._fates.items() if fate != _SOLVED}

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as JSON holds it."""
        return {
            "fates": {str(task): fate for task, fate in self._fates.items()},
            "useful": {kind: [int(one) for one in seen] for kind, seen in self._useful.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._fates = {int(task): fate for task, fate in state["fates"].items()}
        self._useful = {
            kind: deque(map(bool, seen), maxlen=_WINDOW) for kind, seen in state["useful"].items()
        }

    def _rate(self, kind: str) -> float:
        seen = self._useful.get(kind, ())
        return (sum(seen) + 1) / (len(seen) + 1)

    def _kind(self, task: int) -> str:
        return self._fates.get(task, self._sorts[task])
