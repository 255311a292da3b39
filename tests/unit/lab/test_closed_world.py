from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import get_args

import pytest

from masksearch_agent.errors import CorpusError
from masksearch_agent.jsonl import read_jsonl
from masksearch_agent.lab.closed_world import ClosedWorld, Split, make_world, write_world
from masksearch_agent.lab.world_language import RELATIONS
from masksearch_agent.lab.world_questions import make_questions
from masksearch_agent.ramp.cloze import build_question
from masksearch_agent.ramp.spans import FactMention, FactSpanExtractor
from masksearch_agent.records import Passage
from masksearch_agent.text.matching import contains_phrase

SEEDS = (0, 1, 7)
KINDS = {"person", "city", "company", "year"}


@pytest.fixture(scope="module", params=SEEDS)
def world(request: pytest.FixtureRequest) -> ClosedWorld:
    return make_world(request.param, train_entities=80, test_entities=40)


def test_a_seed_gives_the_same_world_to_the_letter(world: ClosedWorld) -> None:
    assert make_world(world.seed, train_entities=80, test_entities=40) == world


def test_another_seed_gives_another_world() -> None:
    assert make_world(0, 30, 15).passages != make_world(1, 30, 15).passages


def test_a_world_does_not_depend_on_the_order_of_hashes() -> None:
    script = (
        "from masksearch_agent.lab.closed_world import make_world\n"
        "from masksearch_agent.records import content_id\n"
        "world = make_world(3, 30, 15)\n"
        "import sys; sys.stdout.write(content_id(world.passages, world.mentions))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
    assert all(printed)


def test_splits_have_the_sizes_that_were_asked_for(world: ClosedWorld) -> None:
    splits = [entity.split for entity in world.entities.values()]
    assert (splits.count("train"), splits.count("test")) == (80, 40)


def test_facts_link_entities_of_one_split_only(world: ClosedWorld) -> None:
    for subject, facts in world.facts.items():
        for fact in facts:
            if fact.relation.is_entity_valued:
                assert world.entities[fact.object].split == world.entities[subject].split
                assert world.entities[fact.object].kind == fact.relation.object_kind
                assert fact.object != subject


def test_no_training_passage_names_an_entity_of_the_test_split(world: ClosedWorld) -> None:
    hidden = [entity.name for entity in world.entities.values() if entity.split == "test"]
    training_text = "\n".join(
        f"{passage.title} {passage.text}" for passage in world.passages if world.split_of(passage) == "train"
    )
    assert not [name for name in hidden if name in training_text]


def test_a_name_of_a_test_split_occurs_in_no_training_split_of_any_world() -> None:
    names: dict[str, set[str]] = {"train": set(), "test": set()}
    for seed in (*range(6), *range(1000, 1006)):
        for entity in make_world(seed, train_entities=600, test_entities=100).entities.values():
            names[entity.split].add(entity.name)
    assert len(names["train"]) > 1800
    assert len(names["test"]) > 200
    assert names["train"].isdisjoint(names["test"])


def test_every_word_of_a_test_name_also_occurs_in_training_names() -> None:
    names: dict[str, set[str]] = {"train": set(), "test": set()}
    for seed in range(6):
        for entity in make_world(seed, train_entities=600, test_entities=100).entities.values():
            names[entity.split].update(entity.name.split())
    assert names["test"] <= names["train"]


def test_a_world_that_is_only_read_has_no_test_split() -> None:
    world = make_world(2, train_entities=60, test_entities=0)
    assert len(world.entities) == 60
    assert {entity.split for entity in world.entities.values()} == {"train"}


def test_the_span_of_every_mention_is_its_answer(world: ClosedWorld) -> None:
    by_id = {passage.id: passage for passage in world.passages}
    for mention in world.mentions:
        assert by_id[mention.passage_id].text[mention.start : mention.end] == mention.hop.answer


def test_every_fact_is_told_in_two_passages_about_its_subject_in_other_words(world: ClosedWorld) -> None:
    by_id = {passage.id: passage for passage in world.passages}
    tellings: dict[tuple[str, str], list[tuple[Passage, str]]] = defaultdict(list)
    for mention in world.mentions:
        passage = by_id[mention.passage_id]
        sentence_start = passage.text.rfind(". ", 0, mention.start) + 1
        before = passage.text[sentence_start : mention.start].strip()
        tellings[passage.document_id, mention.label].append((passage, before))
    for subject, facts in world.facts.items():
        for fact in facts:
            (first, first_words), (second, second_words) = tellings[subject, fact.relation.label]
            assert first.id != second.id
            assert first_words != second_words


def test_what_points_at_an_entity_is_told_in_its_own_articles_too(world: ClosedWorld) -> None:
    pointing: dict[str, set[str]] = defaultdict(set)
    for subject, facts in world.facts.items():
        for fact in facts:
            if fact.object in world.entities:
                pointing[fact.object].add(subject)
    for name, subjects in pointing.items():
        text = " ".join(passage.text for passage in world.passages if passage.document_id == name)
        assert any(subject in text for subject in subjects)


def test_passage_ids_and_titles_are_unique(world: ClosedWorld) -> None:
    assert len({passage.id for passage in world.passages}) == len(world.passages)
    assert len({passage.title for passage in world.passages}) == len(world.passages)


def test_a_fact_is_looked_up_by_its_subject_and_label(world: ClosedWorld) -> None:
    person = next(entity for entity in world.entities.values() if entity.kind == "person")
    fact = world.fact(person.name, "birth year")
    assert fact.hop.need == f"{person.name}'s birth year"
    assert fact.hop.query == f"{person.name} birth year"
    assert 1500 <= int(fact.hop.answer) < 2000


def test_a_split_too_small_to_link_is_refused() -> None:
    with pytest.raises(CorpusError, match="a test split of 5 entities is too small"):
        make_world(0, 80, 5)


def test_more_names_than_there_are_words_for_is_refused() -> None:
    with pytest.raises(CorpusError, match=r"names of kind .* make the world smaller"):
        make_world(0, 20_000, 40)


def test_a_written_world_reads_back(world: ClosedWorld, tmp_path: Path) -> None:
    write_world(world, tmp_path)
    assert tuple(read_jsonl(tmp_path / "passages.jsonl", Passage, CorpusError)) == world.passages
    assert tuple(read_jsonl(tmp_path / "mentions.jsonl", FactMention, CorpusError)) == world.mentions


def test_masked_sentences_become_questions_in_the_passages_words_and_never_those_of_evaluation(
    world: ClosedWorld,
) -> None:
    asked = {
        question.question
        for split in get_args(Split)
        for question in make_questions(world, split, count=10_000, hops=1)
    }
    assert not asked & {mention.question for mention in world.mentions}
    text = {passage.id: passage.text for passage in world.passages}
    for mention in world.mentions:
        words = set(re.findall(r"\w+", mention.question.lower()))
        # Nothing but the sentence, a question word, and a possessive as `the … of`.
        told = set(re.findall(r"\w+", f"{mention.hop.need} {text[mention.passage_id]}".lower()))
        assert words - told <= {"who", "what", "which", "where", "when", "how", "many", "the", "of"} | KINDS
        assert not contains_phrase(mention.question, mention.hop.answer)


def test_a_sentence_is_asked_with_the_word_in_its_place_or_in_front() -> None:
    mentor, region = (next(r for r in RELATIONS if r.label == label) for label in ("mentor", "region"))
    assert mentor.cloze_questions("{s} was taught by {o}.") == (
        "{s} was taught by who?", "Who was {s} taught by?",
        "{s} was taught by which person?", "Which person was {s} taught by?",
        "{s} was taught by which mentor?", "Which mentor was {s} taught by?",
        "{s} was taught by what mentor?", "What mentor was {s} taught by?",
    )  # fmt: skip
    assert mentor.cloze_questions("{p} mentor is {o}.") == (
        "{p} mentor is who?", "Who is {p} mentor?", "{p} mentor is which person?", "Which person is {p} mentor?",
        "The mentor of {s} is who?", "The mentor of {s} is which person?", "Which person is the mentor of {s}?",
    )  # fmt: skip
    assert "Who is the mentor of {s}?" in mentor.questions
    assert "Which region is {s} part of?" in region.questions
    assert "What region is {s} part of?" in region.cloze_questions("{s} is part of {o}.")
    assert "Which region is {s} part of?" not in region.cloze_questions("{s} is part of {o}.")


def test_how_a_fact_is_looked_up_does_not_change_when_it_is_asked_for(world: ClosedWorld) -> None:
    passage, spans = next(FactSpanExtractor(world.mentions).extract(world.passages))
    question = build_question(passage, spans[-1])
    assert question is not None
    assert (question.kind, question.hops) == ("qa", (spans[-1].hop,))
    assert question.question == spans[-1].question
    assert question.source_text == passage.text
