from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from masksearch_agent.pipeline.display import Bar, Display
from masksearch_agent.pipeline.stage_cache import Stage, StageCache, lineage


class Work:
    """Notes what is done; is killed once in a stage of this number."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.done: list[object] = []
        self.killed_in: object = None

    def __call__(self, stage: Stage, folder: Path, bar: Bar) -> tuple[int, int]:
        left = [path.read_text() for path in folder.glob("begun")]
        (folder / "begun").write_text("begun")
        number = stage.settings["number"]
        if number == self.killed_in:
            self.killed_in = None
            raise KeyboardInterrupt
        self.done.append((number, left) if left else number)
        return number, 10 * number

    def cache(self) -> StageCache:
        return StageCache(self.directory, {"count": self}, Display(Console(file=io.StringIO())))


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path)


def count(number: int, title: str = "", **sources: Stage) -> Stage:
    return Stage("count", {"number": number}, {name: s.part() for name, s in sources.items()}, title)


def test_the_key_is_what_a_stage_depends_on() -> None:
    first = count(1)
    assert first.key == count(1, title="another title").key
    different = [
        count(2),
        Stage("other", {"number": 1}),
        count(1, before=first),
        count(1, after=first),
        count(1, before=count(2)),
        Stage("count", {"number": 1}, {"before": first.part("a file of it")}),
    ]
    assert len({stage.key for stage in [first, *different]}) == 1 + len(different)


def test_sources_come_first_and_what_is_shared_is_done_once(work: Work) -> None:
    cache = work.cache()
    left, right = count(2, before=count(1)), count(3, before=count(1))
    assert cache.finish(count(4, left=left, right=right)).tokens == 40
    assert work.done == [1, 2, 3, 4]
    assert cache.path(left.part("a/file")).parent.parent.name == f"count-{left.key}"


def test_a_finished_stage_is_found_by_the_next_start(work: Work) -> None:
    last = count(2, before=count(1))
    took = work.cache().finish(last)
    assert work.cache().finish(last) == took
    assert work.cache().finish(count(3, before=last)).steps == 3
    assert work.done == [1, 2, 3]


def test_a_killed_stage_goes_on_in_its_folder(work: Work) -> None:
    work.killed_in = 2
    last = count(3, before=count(2, before=count(1)))
    with pytest.raises(KeyboardInterrupt):
        work.cache().finish(last)
    work.cache().finish(last)
    assert work.done == [1, (2, ["begun"]), 3]


def test_the_cost_counts_a_shared_stage_once_also_where_only_the_last_was_asked_for(work: Work) -> None:
    first = count(1)
    ends = [count(2, before=first), count(3, before=first)]
    cache = work.cache()
    seconds = sum(cache.finish(stage).seconds for stage in (first, *ends))
    later = work.cache()
    for stage in ends:
        later.finish(stage)
    assert later.cost(ends)[0] == pytest.approx(seconds)
    assert later.cost(ends)[1] > 0


def test_the_lineage_follows_one_name() -> None:
    base, data = count(1), count(5)
    tuned = count(2, agent=base, data=data)
    assert list(lineage(tuned.part("agent"), "agent")) == [tuned, base]
    assert list(lineage(None, "agent")) == []
