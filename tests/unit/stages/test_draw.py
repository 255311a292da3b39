from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from masksearch_agent.errors import TaskError
from masksearch_agent.jsonl import read_jsonl, write_jsonl
from masksearch_agent.records import SearchTask
from masksearch_agent.stages.draw import Draw
from masksearch_agent.stages.graph import StageGraph
from masksearch_agent.stages.stage import TaskFile


def draw(folder: Path, categories: dict[str, int], at_most: int, seed: int = 0) -> list[SearchTask]:
    tasks = [
        SearchTask(f"{category}-{number}", "qa", "Who?", (("Ann",),), category=category)
        for category, count in categories.items()
        for number in range(count)
    ]
    write_jsonl(folder / "tasks.jsonl", tasks)
    stage = Draw(name=f"draw-{seed}", tasks=TaskFile(str(folder / "tasks.jsonl")), at_most=at_most, seed=seed)
    return list(read_jsonl(StageGraph(folder).make(stage.drawn), SearchTask, TaskError))


def test_categories_are_drawn_in_turn_until_there_are_enough(tmp_path: Path) -> None:
    drawn = draw(tmp_path, {"ramp": 100, "cloze": 20, "bridge": 3}, 23)
    assert Counter(task.category for task in drawn) == {"ramp": 10, "cloze": 10, "bridge": 3}
    assert len({task.id for task in drawn}) == 23
    assert drawn != draw(tmp_path, {"ramp": 100, "cloze": 20, "bridge": 3}, 23, seed=1)


def test_fewer_tasks_than_wanted_are_all_taken(tmp_path: Path) -> None:
    assert len(draw(tmp_path, {"ramp": 4, "cloze": 1}, 50)) == 5


def test_an_exam_without_questions_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"no question for the exam .*exam\.documents=0\.3"):
        draw(tmp_path, {}, 5)
