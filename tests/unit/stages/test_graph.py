from __future__ import annotations

import gc
import io
import json
import os
import shutil
import weakref
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes.holders import held_elsewhere
from rich.console import Console

from masksearch_agent.config.base import Settings
from masksearch_agent.errors import ConfigError
from masksearch_agent.stages import graph as graphs
from masksearch_agent.stages import stage as stage_module
from masksearch_agent.stages.display import Bar, Display
from masksearch_agent.stages.graph import StageGraph
from masksearch_agent.stages.stage import AgentFolder, Corpus, Site, Spent, Stage, TaskFile, lineage


class CountSettings(Settings):
    number: int
    unit: str = "pieces"


@dataclass(frozen=True, kw_only=True, eq=False)
class Count(Stage):
    """Notes its number in the log of the test, and what a stopped attempt left."""

    kind = "count"

    settings: CountSettings
    agent: AgentFolder | None = None
    files: tuple[TaskFile, ...] = ()

    def work(self, folder: Path, site: Site, bar: Bar) -> Spent:
        for artifact in self.files:
            assert site.where(artifact).is_file()
        left = [path.name for path in folder.glob("begun")]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "begun").write_text("begun")
        number = self.settings.number
        if number in killed_in:
            killed_in.remove(number)
            raise KeyboardInterrupt
        done.append((number, left) if left else number)
        (folder / "file").write_text(f"{number}")
        return Spent(number, 10 * number)

    @property
    def file(self) -> TaskFile:
        return TaskFile("file", self)

    @property
    def trained(self) -> AgentFolder:
        return AgentFolder("", self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Read(Stage):
    kind = "read"

    corpus: Corpus
    file: TaskFile

    def work(self, folder: Path, site: Site, bar: Bar) -> None:
        folder.mkdir(parents=True, exist_ok=True)


class Held:
    """What a stage works with; knows itself in a circle, as agents do."""

    def __init__(self) -> None:
        self.itself = self


@dataclass(frozen=True, kw_only=True, eq=False)
class Holding(Count):
    """Leaves something that only the collector frees."""

    def work(self, folder: Path, site: Site, bar: Bar) -> Spent:
        held.append(weakref.ref(Held()))
        return super().work(folder, site, bar)


held: list[weakref.ref[Held]] = []


@dataclass(frozen=True, kw_only=True, eq=False)
class Recount(Count):
    kind = "recount"


done: list[object] = []
killed_in: list[int] = []


@pytest.fixture(autouse=True)
def fresh() -> None:
    done.clear()
    killed_in.clear()


def graph_in(directory: Path) -> StageGraph:
    return StageGraph(directory, Display(Console(file=io.StringIO())))


def count(number: int, *sources: Count, name: str = "", title: str = "") -> Count:
    files = tuple(source.file for source in sources)
    return Count(name=name, title=title, settings=CountSettings(number=number), files=files)


def test_the_key_is_what_a_stage_depends_on() -> None:
    first = count(1)
    assert first.key == count(1, name="a name", title="another title").key
    different = [
        count(2),
        Recount(settings=CountSettings(number=1)),
        Count(settings=CountSettings(number=1, unit="boxes")),
        count(1, first),
        count(1, count(2)),
        Count(settings=CountSettings(number=1), files=(TaskFile("another file", first),)),
        Count(settings=CountSettings(number=1), files=(TaskFile("file"),)),
        Count(settings=CountSettings(number=1), agent=first.trained),
    ]
    assert len({stage.key for stage in [first, *different]}) == 1 + len(different)


def test_sources_come_first_and_what_is_shared_is_done_once(tmp_path: Path) -> None:
    graph = graph_in(tmp_path)
    left, right = count(2, count(1)), count(3, count(1))
    last = count(4, left, right)
    assert graph.finish(last).tokens == 40
    assert done == [1, 2, 3, 4]
    assert graph.where(left.file) == tmp_path / f"count-{left.key}" / "file"
    assert [stage.steps for stage in graph.took([last])] == [1, 2, 3, 4]


@pytest.mark.parametrize(("short_s", "is_gone"), [(0.0, True), (60.0, False)])
def test_what_a_long_stage_worked_with_is_gone_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_s: float, is_gone: bool
) -> None:
    monkeypatch.setattr(graphs, "_SHORT_STAGE_S", short_s)
    gc.disable()
    try:
        graph_in(tmp_path).finish(Holding(settings=CountSettings(number=1)))
        assert [one() is None for one in held] == [is_gone]
    finally:
        gc.enable()
        held.clear()


def test_a_stage_with_a_name_has_a_folder_of_that_name(tmp_path: Path) -> None:
    graph = graph_in(tmp_path)
    assert graph.make(count(1, name="rounds/first").file) == tmp_path / "rounds" / "first" / "file"
    assert graph.finish(count(1, name="rounds/first")).name == "rounds/first"
    assert graph.make(Corpus("some/documents")) == Path("some/documents")


def test_a_finished_stage_is_found_by_the_next_start(tmp_path: Path) -> None:
    last = count(2, count(1))
    took = graph_in(tmp_path).finish(last)
    assert graph_in(tmp_path).finish(last) == took
    assert graph_in(tmp_path).finish(count(3, last)).steps == 3
    assert done == [1, 2, 3]


def test_a_killed_stage_goes_on_in_its_folder(tmp_path: Path) -> None:
    killed_in.append(2)
    last = count(3, count(2, count(1)))
    with pytest.raises(KeyboardInterrupt):
        graph_in(tmp_path).finish(last)
    graph_in(tmp_path).finish(last)
    assert done == [1, (2, ["begun"]), 3]


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_folder_of_other_settings_is_refused_before_anything_is_done(
    tmp_path: Path, is_finished: bool
) -> None:
    killed_in.extend([] if is_finished else [1])
    if is_finished:
        graph_in(tmp_path).finish(count(1, name="first"))
    else:
        with pytest.raises(KeyboardInterrupt):
            graph_in(tmp_path).finish(count(1, name="first"))
    done.clear()
    last = count(3, count(5, name="new"), count(2, name="first"))
    with pytest.raises(ConfigError, match=r"its 'first' was made from another settings.number"):
        graph_in(tmp_path).check([last])
    assert done == []
    graph_in(tmp_path).check([count(3, count(1, name="first"))])


def test_all_that_has_to_be_done_again_is_named_at_once_and_then_is(tmp_path: Path) -> None:
    def plan(number: int) -> Count:
        first = count(number, name="first")
        return count(3, count(2, first, name="second"), name="third")

    graph_in(tmp_path).finish(plan(1))
    with pytest.raises(ConfigError) as refused:
        graph_in(tmp_path).check([plan(7)])
    told, _, stale = str(refused.value).partition("to do them again: ")
    assert told.count("was made from another") == 1
    assert "'first' was made from another settings.number" in told
    for path in map(Path, stale.split()):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert list((tmp_path / "ledger").iterdir()) == []
    done.clear()
    graph_in(tmp_path).finish(plan(7))
    assert done == [7, 2, 3]


def test_a_run_of_an_earlier_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "stages.json").write_text('{"fingerprint": "", "stages": []}')
    with pytest.raises(ConfigError, match="a run of an earlier version"):
        graph_in(tmp_path)


def test_the_ledger_says_what_a_stage_was_made_from_and_took(tmp_path: Path) -> None:
    first = count(1, name="first")
    graph_in(tmp_path).finish(count(2, first, name="second"))
    kept = json.loads((tmp_path / "ledger" / "second.json").read_text())
    assert kept["made_from"]["files"] == [[first.key, "file"]]
    assert (kept["steps"], kept["tokens"]) == (2, 20)
    assert kept["seconds"] > 0
    assert kept["peak_memory_gb"] > 0


def test_the_lineage_follows_the_agents() -> None:
    base, data = count(1), count(5)
    tuned = Count(settings=CountSettings(number=2), agent=base.trained, files=(data.file,))
    assert list(lineage(tuned.trained)) == [tuned, base]
    assert list(lineage(None)) == []
    assert list(lineage(AgentFolder("an/agent"))) == []


def test_a_stage_whose_folder_was_deleted_is_done_again_and_no_other(tmp_path: Path) -> None:
    first = Count(name="first", settings=CountSettings(number=1))
    second = Count(name="second", settings=CountSettings(number=2), files=(first.file,))
    StageGraph(tmp_path).finish(second)
    shutil.rmtree(tmp_path / "first")
    StageGraph(tmp_path).finish(second)
    assert done == [1, 2, 1]


def test_what_was_made_from_files_that_changed_since_is_refused(tmp_path: Path) -> None:
    file, folder = tmp_path / "questions.jsonl", tmp_path / "documents"
    folder.mkdir()

    def finish() -> None:
        StageGraph(tmp_path / "run").finish(
            Read(name="read", corpus=Corpus(str(folder)), file=TaskFile(str(file)))
        )

    file.write_text("one")
    finish()
    finish()
    file.write_text("two")
    with pytest.raises(ConfigError, match="made from another file"):
        finish()
    file.write_text("one")
    (folder / "new.txt").write_text("Quay")
    with pytest.raises(ConfigError, match="made from another corpus"):
        finish()


def test_an_input_that_a_run_of_before_did_not_know_changes_nothing_where_there_is_none() -> None:
    assert graphs._differences({"seed": 1}, {"seed": 1, "held_out": []}) == []
    assert graphs._differences({"seed": 1}, {"seed": 1, "held_out": ["exam"]}) == ["held_out"]
    assert graphs._differences({"seed": 1, "held_out": ["exam"]}, {"seed": 1, "held_out": []}) == ["held_out"]


def test_a_folder_is_known_by_what_is_in_its_files_and_not_by_their_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "documents").mkdir()
    document = tmp_path / "documents" / "a.txt"
    document.write_text("Quay of 1923")
    before = Corpus(str(tmp_path / "documents")).identity
    os.utime(document, (1, 1))
    assert Corpus(str(tmp_path / "documents")).identity == before
    document.write_text("Quay of 1924")
    changed = Corpus(str(tmp_path / "documents")).identity
    assert changed != before
    monkeypatch.setattr(stage_module, "_HASHED_FOLDER_BYTES", 11)
    large = Corpus(str(tmp_path / "documents")).identity
    document.write_text("Quay of 1925")
    assert Corpus(str(tmp_path / "documents")).identity == large


@dataclass(frozen=True, kw_only=True, eq=False)
class Noted(Stage):
    """Has something to say of its work."""

    kind = "noted"

    def work(self, folder: Path, site: Site, bar: Bar) -> Spent:
        folder.mkdir(parents=True)
        return Spent(8, 80, exam_seconds=1.5, notes=("step 8: exam recall is 0.1",))


def test_what_a_stage_noted_is_said_and_kept(tmp_path: Path) -> None:
    shown = io.StringIO()
    graph = StageGraph(tmp_path, Display(Console(file=shown, width=200)))
    took = graph.finish(Noted(title="SFT"))
    assert "SFT: step 8: exam recall is 0.1" in shown.getvalue()
    assert (took.exam_seconds, took.notes) == (1.5, ("step 8: exam recall is 0.1",))
    assert graph_in(tmp_path).finish(Noted(title="SFT")) == took


def test_only_stages_that_can_try_what_failed_are_worked_at_again(tmp_path: Path) -> None:
    worked: list[str] = []

    @dataclass(frozen=True, kw_only=True, eq=False)
    class Trained(Stage):
        kind = "trained"

        def work(self, folder: Path, site: Site, bar: Bar) -> Spent:
            folder.mkdir(parents=True, exist_ok=True)
            worked.append(self.kind)
            return Spent(items=4, failed=1)

    @dataclass(frozen=True, kw_only=True, eq=False)
    class Asked(Trained):
        kind = "asked"
        retries = True

    for retry_failed in (False, True):
        graph = StageGraph(tmp_path)
        graph.retry_failed = retry_failed
        graph.finish(Trained())
        graph.finish(Asked())
    assert worked == ["trained", "asked", "asked"]


def test_another_process_s_run_is_left_alone(tmp_path: Path) -> None:
    graph = graph_in(tmp_path)
    with held_elsewhere(tmp_path, is_folder=True), pytest.raises(ConfigError, match="another process"):
        graph.finish(count(1))
    assert (done, list(tmp_path.iterdir())) == ([], [])
    graph.finish(count(1))
    assert done == [1]
