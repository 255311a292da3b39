from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.config.exam import ExamSettings
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.errors import TaskError
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.records import Passage
from masksearch_agent.stages.display import Display
from masksearch_agent.stages.graph import StageGraph
from masksearch_agent.stages.parts import Parts
from masksearch_agent.stages.stage import Corpus
from masksearch_agent.stages.tasks import corpus_passages

NAMES = ("train", "validation", "exam")


def manual(documents: int, passages: int) -> list[Passage]:
    return [
        Passage(f"{name}-{place}", f"Page {name}", f"Text {place} of {name}.", f"page-{name}", place)
        for name in range(documents)
        for place in range(passages)
    ]


def deal(
    folder: Path, passages: Iterable[Passage], seed: int = 0, **settings: Any
) -> dict[str, list[Passage]]:
    write_jsonl(folder / "corpus.jsonl", passages)
    return parts_of(folder, folder / "corpus.jsonl", seed, **settings)


def parts_of(
    folder: Path, corpus: Path, seed: int = 0, reading: CorpusSettings | None = None, **settings: Any
) -> dict[str, list[Passage]]:
    stage = Parts(
        name=f"parts-{seed}",
        corpus=Corpus(str(corpus)),
        reading=reading or CorpusSettings(),
        settings=ExamSettings(**settings),
        seed=seed,
    )
    graph = StageGraph(folder / "run", Display())
    graph.finish(stage)
    dealt = {name: list(corpus_passages(graph.where(getattr(stage, name)))) for name in NAMES}
    counts = json.loads(graph.where(stage.counts).read_text())
    assert {name: len(found) for name, found in dealt.items()} == {name: counts[name] for name in NAMES}
    return dealt


def documents_of(passages: Iterable[Passage]) -> set[str]:
    return {passage.document_id or passage.title or passage.id for passage in passages}


def test_every_passage_is_in_one_part_and_every_document_too(tmp_path: Path) -> None:
    corpus = manual(60, 4)
    dealt = deal(tmp_path, corpus, documents=0.2, questions=20, validation_questions=10)
    assert sorted(p.id for part in dealt.values() for p in part) == sorted(p.id for p in corpus)
    documents = {name: documents_of(part) for name, part in dealt.items()}
    assert {name: len(found) for name, found in documents.items()} == {
        "train": 48,
        "validation": 4,
        "exam": 8,
    }
    assert len(set.union(*documents.values())) == 60


def test_a_passage_of_a_table_is_dealt_with_those_of_its_title(tmp_path: Path) -> None:
    corpus = [
        Passage(f"{n}-{half}", f"Title {n}", f"Text {half} of {n}.") for n in range(80) for half in "ab"
    ]
    dealt = deal(tmp_path, corpus, documents=0.1)
    assert [len(documents_of(dealt[name])) for name in NAMES] == [72, 3, 5]
    assert [len(dealt[name]) for name in NAMES] == [144, 6, 10]


def test_a_few_long_documents_are_dealt_by_stretches(tmp_path: Path) -> None:
    dealt = deal(tmp_path, manual(3, 100), documents=0.2, questions=2, validation_questions=1)
    assert [len(dealt[name]) for name in NAMES] == [240, 20, 40]
    stretches = {name: {(p.document_id, p.position // 10) for p in part} for name, part in dealt.items()}
    assert not stretches["train"] & (stretches["exam"] | stretches["validation"])
    assert len(stretches["exam"]) == 4


def test_the_parts_depend_on_the_seed_and_not_on_the_order(tmp_path: Path) -> None:
    corpus = manual(60, 1)
    found, again, other = (
        deal(tmp_path / str(number), passages, seed)
        for number, (passages, seed) in enumerate([(corpus, 1), (corpus[::-1], 1), (corpus, 2)])
    )
    assert found["exam"] == again["exam"]
    assert {p.id for p in found["train"]} == {p.id for p in again["train"]}
    assert found["exam"] != other["exam"]


def test_no_more_is_held_back_than_the_questions_need(tmp_path: Path) -> None:
    dealt = deal(tmp_path, manual(400, 1), documents=0.5, questions=1, validation_questions=1)
    assert [len(dealt[name]) for name in NAMES] == [300, 50, 50]


def test_documents_in_columns_of_their_own_are_read_as_the_recipe_says(tmp_path: Path) -> None:
    rows = [{"body": f"Row {number} says a thing.", "key": number} for number in range(60)]
    write_jsonl(tmp_path / "corpus.jsonl", rows)
    reading = CorpusSettings(text_column="body", id_column="key")
    dealt = parts_of(tmp_path, tmp_path / "corpus.jsonl", reading=reading)
    known = {passage.id for passage in read_passages(tmp_path / "corpus.jsonl", reading)}
    assert {passage.id for part in dealt.values() for passage in part} == known


def test_facts_that_a_corpus_brings_go_with_every_part(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "world" / "passages.jsonl", manual(60, 1))
    (tmp_path / "world" / "mentions.jsonl").write_text("")
    parts_of(tmp_path, tmp_path / "world")
    assert all((tmp_path / "run" / "parts-0" / name / "mentions.jsonl").is_file() for name in NAMES)


def test_a_corpus_too_small_for_an_exam_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"too few passages .*exam\.documents=0"):
        deal(tmp_path, manual(1, 5))
