"""How likely a task's next group is to be of use, from what became of groups so far.

Dynamic sampling throws away what it sampled for groups of equal rewards. So it draws as many tasks as are likely to
make the batch full, none that is solved, and one that was all wrong the more rarely the more often it was. A task that
was rolled out before is judged by what usually becomes of tasks of its last fate, another one by its number of masks;
both over the last groups only, since the policy changes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

__all__ = ("Prospects",)

_WINDOW = 64
"""Groups of a kind of tasks that its rate is taken over."""
_SOLVED = "all_right"
_HOPELESS = "all_wrong"


class Prospects:
    """Counts groups; the tasks are named by their places in the list that is drawn from."""

    def __init__(self) -> None:
        self._fates: dict[int, str] = {}
        """Of the last group of each task that was rolled out."""
        self._useful: dict[str, deque[bool]] = {}
        """Of the last groups of each kind of tasks: whether they were of use."""
        self._wrong_in_a_row: dict[int, int] = {}
        """Of tasks whose last group was all wrong: how many of them one after the other."""
        self._waits: dict[int, int] = {}
        """How often such a task is still passed over."""

    def likelihood(self, task: int, mask_count: int) -> float:
        """Return how likely a group is to be of use; what nobody has tried yet is."""
        seen = self._useful.get(self._kind(task, mask_count), ())
        return (sum(seen) + 1) / (len(seen) + 1)

    def is_solved(self, task: int) -> bool:
        """Whether all rollouts of its last group were right."""
        return self._fates.get(task) == _SOLVED

    def waits(self, task: int) -> bool:
        """Whether a draw passes over a task now: as often in a row as its last groups in a row were all wrong."""
        left = self._waits.pop(task, 0)
        if left > 1:
            self._waits[task] = left - 1
        return left > 0

    def observe(self, task: int, mask_count: int, fate: str) -> None:
        """Note what became of a group; one that could not be scored says nothing."""
        if fate == "unscorable":
            return
        kind = self._kind(task, mask_count)
        self._useful.setdefault(kind, deque(maxlen=_WINDOW)).append(fate == "useful")
        self._fates[task] = fate
        in_a_row = self._wrong_in_a_row.pop(task, 0) + 1
        if fate == _HOPELESS:
            self._wrong_in_a_row[task] = self._waits[task] = in_a_row

    def forget_idle(self) -> None:
        """Take solved tasks for new ones, and let none wait."""
        self._fates = {task: fate for task, fate in self._fates.items() if fate != _SOLVED}
        self._waits = {}

    def state(self) -> dict[str, Any]:
        """Return what `restore` needs, as JSON holds it."""
        return {
            "fates": {str(task): fate for task, fate in self._fates.items()},
            "useful": {kind: [int(one) for one in seen] for kind, seen in self._useful.items()},
            "wrong_in_a_row": {str(task): count for task, count in self._wrong_in_a_row.items()},
            "waits": {str(task): count for task, count in self._waits.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._fates = {int(task): fate for task, fate in state["fates"].items()}
        self._useful = {
            kind: deque(map(bool, seen), maxlen=_WINDOW) for kind, seen in state["useful"].items()
        }
        # A checkpoint of an earlier version has neither.
        in_a_row, waits = state.get("wrong_in_a_row", {}), state.get("waits", {})
        self._wrong_in_a_row = {int(task): count for task, count in in_a_row.items()}
        self._waits = {int(task): count for task, count in waits.items()}

    def _kind(self, task: int, mask_count: int) -> str:
        return self._fates.get(task, f"{mask_count} masks")
