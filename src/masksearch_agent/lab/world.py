"""The closed world as a stage: an encyclopedia and questions about it, written to a folder.

passages.jsonl, mentions.jsonl        the whole world, for the index
train/, test/                         the same for each split, for masking
questions/qa_train.jsonl, *_test.jsonl
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from masksearch_agent.errors import CorpusError
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.lab.closed_world import ClosedWorld, Split, make_world, write_world
from masksearch_agent.lab.recipe import QuestionSet, WorldSettings
from masksearch_agent.lab.world_questions import make_questions
from masksearch_agent.records import SearchTask
from masksearch_agent.stages.display import Bar
from masksearch_agent.stages.stage import Corpus, Site, Stage, TaskFile

__all__ = ("World", "training_corpus", "write_closed_world")


@dataclass(frozen=True, kw_only=True, eq=False)
class World(Stage):
    """Writes a closed world."""

    kind = "world"

    settings: WorldSettings
    seed: int

    @property
    def passages(self) -> Corpus:
        """All passages."""
        return Corpus("passages.jsonl", self)

    def split(self, split: Split) -> Corpus:
        """Return the passages of a split, with their facts."""
        return Corpus(split, self)

    @property
    def train_questions(self) -> TaskFile:
        """Questions to train on."""
        return TaskFile("questions/qa_train.jsonl", self)

    @property
    def test_questions(self) -> dict[str, TaskFile]:
        """Held-out questions by kind: `qa_2hop`, …"""
        names = [wanted.name for wanted in self.settings.test_questions]
        return {name: TaskFile(f"questions/{name}_test.jsonl", self) for name in names}

    def work(self, folder: Path, site: Site, bar: Bar) -> None:
        """Make and write it."""
        write_closed_world(self.settings, self.seed, folder)


def write_closed_world(settings: WorldSettings, seed: int, directory: Path) -> dict[str, Any]:
    """Write a closed world and its questions.

    Returns:
        What was written, for people to read.
    """
    world = make_world(seed, settings.train_entities, settings.test_entities)
    write_world(world, directory)
    for split in get_args(Split):
        passages = [passage for passage in world.passages if world.split_of(passage) == split]
        ids = {passage.id for passage in passages}
        write_jsonl(directory / split / "passages.jsonl", passages)
        mentions = (mention for mention in world.mentions if mention.passage_id in ids)
        write_jsonl(directory / split / "mentions.jsonl", mentions)
    train = [task for wanted in settings.train_questions for task in _questions(world, "train", wanted)]
    counts = {"qa_train": write_jsonl(directory / "questions" / "qa_train.jsonl", train)}
    for wanted in settings.test_questions:
        name, tasks = f"{wanted.name}_test", _questions(world, "test", wanted)
        counts[name] = write_jsonl(directory / "questions" / f"{name}.jsonl", tasks)
    return {"world": str(directory), "passages": len(world.passages), "questions": counts}


def training_corpus(corpus: Path) -> Path:
    """Return what of a corpus may be trained on: of a closed world its training split, else all.

    Raises:
        CorpusError: A closed world that an earlier version wrote has no folder for it.
    """
    if not (corpus / "world.json").is_file():
        return corpus
    if not (corpus / "train").is_dir():
        raise CorpusError(
            f"{corpus} was written by an earlier version; write it again with `masksearch world`"
        )
    return corpus / "train"


def _questions(world: ClosedWorld, split: Split, wanted: QuestionSet) -> list[SearchTask]:
    return make_questions(world, split, wanted.count, wanted.hops, wanted.category)
