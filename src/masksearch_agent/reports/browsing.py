"""Looking at stored trajectories on the terminal: many as a table, one as a conversation, two side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from masksearch_agent.agent.escaping import restore
from masksearch_agent.errors import TraceError
from masksearch_agent.records import Trajectory, Turn
from masksearch_agent.traces.rows import POLICY_ROLE
from masksearch_agent.traces.store import TraceStore

__all__ = ("TraceFilter", "draw_comparison", "draw_list", "draw_trajectory", "find_trajectories", "outline")

_STYLES = {"policy": "bold", "judge": "magenta"}


@dataclass(frozen=True)
class TraceFilter:
    """Which trajectories; every condition that is set must hold."""

    stage: str | None = None
    accepted: bool | None = None
    task_id: str | None = None
    producer: str | None = None
    """Part of the producer's name."""
    verdict: str | None = None
    """Part of the verdict."""
    text: str | None = None
    """Stands somewhere in the turns, whatever its case."""

    def select(self, store: TraceStore, limit: int | None = None) -> Iterator[Trajectory]:
        """Yield the trajectories of a store that pass, in the order in which they were stored."""
        return islice(filter(self._passes, store.trajectories(self.stage, self.accepted)), limit)

    def _passes(self, trajectory: Trajectory) -> bool:
        return (
            (self.task_id is None or trajectory.task_id == self.task_id)
            and (self.producer is None or self.producer in trajectory.producer)
            and (self.verdict is None or self.verdict in trajectory.verdict)
            and (self.text is None or any(_holds(turn, self.text.casefold()) for turn in trajectory.turns))
        )


def find_trajectories(store: TraceStore, prefixes: Sequence[str]) -> list[Trajectory]:
    """Return the trajectories with these ids, each given by as much of its beginning as is needed.

    Raises:
        TraceError: An id is unknown, or several begin so.
    """
    found = []
    for prefix in prefixes:
        ids = store.ids(prefix)
        trajectory = store.get(prefix if prefix in ids else ids[0]) if ids else None
        if trajectory is None:
            raise TraceError(f"{store.path} has no trajectory {prefix!r}; `masksearch traces` lists them")
        if len(ids) > 1 and prefix not in ids:
            raise TraceError(
                f"several trajectories begin with {prefix!r}: {', '.join(ids)}; give more digits"
            )
        found.append(trajectory)
    return found


def outline(trajectory: Trajectory) -> dict[str, Any]:
    """Return what tells a trajectory from others, for a table or as JSON."""
    usage = trajectory.usage
    return {
        "id": trajectory.id,
        "task": trajectory.task_id,
        "accepted": trajectory.accepted,
        "verdict": trajectory.verdict,
        "searches": len(trajectory.queries),
        "steps": sum(turn.role == POLICY_ROLE for turn in trajectory.turns),
        "stop_reason": trajectory.stop_reason,
        "answer": restore(trajectory.answer),
        "producer": trajectory.producer,
        "tokens": usage.prompt_tokens + usage.sampled_tokens if usage is not None else None,
        "cost_usd": usage.cost_usd if usage is not None else None,
    }


def draw_list(trajectories: Sequence[Trajectory]) -> Table:
    """Return a table with a line per trajectory."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    # `masksearch traces ID` wants the id: on a narrow terminal the other columns give way to it.
    table.add_column("id", no_wrap=True, min_width=max((len(t.id) for t in trajectories), default=0))
    for column in ("task", "verdict", "searches", "answer", "producer"):
        table.add_column(column, overflow="ellipsis", no_wrap=True)
    for row in map(outline, trajectories):
        style = {True: "green", False: "red"}.get(row["accepted"], "")
        table.add_row(
            row["id"], row["task"], Text(row["verdict"], style), str(row["searches"]),
            Text(" / ".join(row["answer"].splitlines())), Text(row["producer"]),
        )  # fmt: skip
    return table


def draw_trajectory(trajectory: Trajectory) -> RenderableType:
    """Return a trajectory as the conversation it was: the policy's, and what other roles replied on the way."""
    parts: list[RenderableType] = [_facts([trajectory])]
    for turn in trajectory.turns:
        if turn.role == POLICY_ROLE:
            parts.extend(
                Panel(Text(restore(message.content)), title=message.role, title_align="left", style="dim")
                for message in turn.context
            )
        title = turn.role + (f" ({turn.model_version})" if turn.model_version else "")
        style = _STYLES.get(turn.role, "cyan")
        parts.append(Panel(Text(restore(turn.text)), title=title, title_align="left", border_style=style))
    return Group(*parts)


def draw_comparison(trajectories: Sequence[Trajectory]) -> RenderableType:
    """Return trajectories side by side: what they are, then the policy's steps, marked where they part."""
    table = Table(show_lines=True)
    table.add_column("step")
    for trajectory in trajectories:
        table.add_column(trajectory.id, ratio=1)
    steps = [[turn.text for turn in t.turns if turn.role == POLICY_ROLE] for t in trajectories]
    for number, row in enumerate(zip_longest(*steps, fillvalue=""), start=1):
        is_same = len(set(row)) == 1
        cells = [Text(restore(text), "dim" if is_same else "") for text in row]
        table.add_row(f"{number}{'' if is_same else ' ≠'}", *cells)
    return Group(_facts(trajectories), table)


def _facts(trajectories: Sequence[Trajectory]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    outlines = [outline(trajectory) for trajectory in trajectories]
    for name in outlines[0]:
        values = [row[name] for row in outlines]
        if any(value is not None for value in values):
            table.add_row(
                Text(name, "bold"), *(Text("" if value is None else str(value)) for value in values)
            )
    return table


def _holds(turn: Turn, text: str) -> bool:
    return text in turn.text.casefold() or any(text in message.content.casefold() for message in turn.context)
