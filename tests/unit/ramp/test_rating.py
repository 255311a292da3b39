from __future__ import annotations

import re

import pytest

from masksearch_agent.errors import TaskError
from masksearch_agent.ramp.rating import RULES, count_sheet, write_sheet
from masksearch_agent.records import Passage, SearchTask

TASKS = [
    SearchTask(f"id{n}", "qa", f"Who founded\n## Works {n}?", ((f"Ann {n}",),), gold_passage_ids=(f"p{n}",))
    for n in range(20)
]


def sheet(count: int = 4, seed: int = 0) -> str:
    return write_sheet(
        TASKS, count, seed, lambda key: Passage(key, "Works", f"{'x ' * 900}By Ann {key[1:]} it was.")
    )


def test_a_sheet_shows_tasks_their_answers_and_what_gives_them() -> None:
    text = sheet()
    ids = re.findall(r"^## \d+ `(id\d+)`$", text, re.MULTILINE)
    assert len(set(ids)) == 4
    for key in ids:
        assert f"Answer: **Ann {key[2:]}**" in text
        assert f"By Ann {key[2:]} it was." in text
    assert all(rule in text for rule in RULES.values())
    assert sheet() == text != sheet(seed=1)


def test_more_tasks_than_there_are_give_all() -> None:
    assert len(re.findall(r"^## ", sheet(99), re.MULTILINE)) == 20


def mark(text: str, marks: list[str]) -> str:
    """Fill the colons in, in their order."""
    left = iter(marks)
    return re.sub(
        r"^- (clear|fact|given|wanted): $", lambda m: f"- {m[1]}: {next(left, '')}", text, flags=re.M
    )


def test_a_task_is_good_with_four_times_yes() -> None:
    found = count_sheet(mark(sheet(), ["y"] * 4 + ["Yes", "y", "n", "y"] + ["y", "", "y", "y"] + ["y"] * 4))
    assert (found.rated, found.good, found.unrated) == (3, 2, 1)
    assert found.yes == {"clear": 3, "fact": 3, "given": 2, "wanted": 3}
    assert len(found.bad_ids) == 1
    low, high = found.interval
    # Wilson for 2 of 3, from the closed form.
    assert (round(low, 3), round(high, 3)) == (0.208, 0.939)


def test_an_empty_sheet_has_no_share() -> None:
    found = count_sheet(sheet())
    assert (found.rated, found.good, found.unrated, found.interval) == (0, 0, 4, (0.0, 1.0))


def test_a_mark_that_is_neither_yes_nor_no_is_named() -> None:
    with pytest.raises(TaskError, match=r"'clear' is marked 'perhaps'; expected y or n"):
        count_sheet(mark(sheet(), ["perhaps"]))


def test_another_file_is_no_sheet() -> None:
    with pytest.raises(TaskError, match="no sheet of tasks"):
        count_sheet("# Notes")


def test_without_tasks_there_is_nothing_to_rate() -> None:
    with pytest.raises(TaskError, match="no task to rate"):
        write_sheet([], 5)
