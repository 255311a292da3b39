from __future__ import annotations

from io import StringIO

from rich.console import Console

from masksearch_agent.records import Trajectory
from masksearch_agent.reports.browsing import draw_list


def test_the_list_shows_whole_ids_on_a_narrow_terminal() -> None:
    ids = ["0123456789abcdef01234567", "fedcba9876543210fedcba98"]
    stored = [
        Trajectory(
            name, "a-task-with-a-long-name", (), "Ann Bo of Quay", "answered", producer="tiny/model#abcdef"
        )
        for name in ids
    ]
    console = Console(width=80, file=StringIO(), record=True)
    console.print(draw_list(stored))
    text = console.export_text()
    assert all(name in text for name in ids)
    assert all(len(line) <= 80 for line in text.splitlines())
