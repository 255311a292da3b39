"""RAMP tasks on the terminal: examples, and their distributions as tables with bars."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from masksearch_agent.files import replace_text
from masksearch_agent.records import MASK, SearchTask

__all__ = ("draw_distributions", "draw_examples", "save_plot")

_BAR_WIDTH = 40
_PLOT_WIDTH = 90
_REMOTE_FONT = re.compile(r"@font-face\s*\{.*?\}", re.DOTALL)


def draw_distributions(distributions: Mapping[str, Mapping[str, int]]) -> RenderableType:
    """Return one table with bars per distribution."""
    tables = []
    for name, counts in distributions.items():
        total, largest = max(1, sum(counts.values())), max(1, *counts.values())
        table = Table(title=name, title_justify="left", box=None, padding=(0, 2, 0, 0), show_header=False)
        table.add_column(min_width=14)
        table.add_column(justify="right", min_width=7)
        table.add_column(justify="right", min_width=6)
        table.add_column()
        for value, count in counts.items():
            bar = "█" * round(_BAR_WIDTH * count / largest) or ("▏" if count else "")
            table.add_row(value, f"{count:,}", f"{count / total:.1%}", Text(bar, style="cyan"))
        tables.append(table)
    return Group(*(part for table in tables for part in (table, "")))


def draw_examples(tasks: Sequence[SearchTask]) -> RenderableType:
    """Return tasks with their masks marked, and the answer and the query of each mask."""
    panels = []
    for task in tasks:
        text = Text(task.question)
        text.highlight_words([MASK], "bold magenta")
        for number, hop in enumerate(task.hops, start=1):
            text.append(f"\n{number}. {hop.answer}", style="bold green")
            text.append(f"   query: {hop.query}", style="dim")
        panels.append(Panel(text, title=task.id, title_align="left"))
    return Group(*panels)


def save_plot(distributions: Mapping[str, Mapping[str, int]], path: Path) -> None:
    """Write the distributions as an SVG picture that loads nothing from elsewhere."""
    console = Console(record=True, width=_PLOT_WIDTH, file=StringIO())
    console.print(draw_distributions(distributions))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, _REMOTE_FONT.sub("", console.export_svg(title="RAMP tasks")))
