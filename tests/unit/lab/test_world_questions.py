from __future__ import annotations

import re

import pytest

from masksearch_agent.lab.closed_world import ClosedWorld, Split, make_world
from masksearch_agent.lab.world_language import RELATIONS, Relation
from masksearch_agent.lab.world_questions import CATEGORIES, make_questions
from masksearch_agent.records import SearchTask


@pytest.fixture(scope="module")
def world() -> ClosedWorld:
    return make_world(11, train_entities=160, test_entities=80)


def ask(world: ClosedWorld, category: str, hops: int = 2, split: Split = "train") -> list[SearchTask]:
    tasks = make_questions(world, split, 60, hops=hops, category=category)
    assert len(tasks) > 10
    return tasks


class Reader:
    """Answers bridge questions by reading their words: every pattern that fits is undone from the outside in."""

    def __init__(self, world: ClosedWorld) -> None:
        self.values = {
            (fact.subject, fact.relation.label): fact.object
            for facts in world.facts.values()
            for fact in facts
        }
        self.kinds = {entity.name: entity.kind for entity in world.entities.values()}

    def answers(self, question: str) -> set[str]:
        return {
            value
            for relation in RELATIONS
            for pattern in relation.questions
            for value in self._undo(question, pattern, relation)
        }

    def _meanings(self, phrase: str) -> set[str]:
        if phrase in self.kinds:
            return {phrase}
        return {
            value
            for relation in RELATIONS
            for pattern in (f"the {relation.label} of {{s}}", *relation.descriptions)
            for value in self._undo(phrase, pattern, relation)
        }

    def _undo(self, text: str, pattern: str, relation: Relation) -> set[str]:
        before, after = pattern.split("{s}")
        if not (text.startswith(before) and text.endswith(after)):
            return set()
        inner = text[len(before) : len(text) - len(after)]
        return {
            self.values[subject, relation.label]
            for subject in self._meanings(inner)
            if self.kinds.get(subject) == relation.subject_kind
        }


@pytest.mark.parametrize("hops", [1, 2, 3, 4])
def test_a_bridge_question_has_exactly_the_answer_that_its_words_lead_to(
    world: ClosedWorld, hops: int
) -> None:
    reader = Reader(world)
    for task in ask(world, "bridge", hops):
        assert reader.answers(task.question) == {task.answers[0][0]}


@pytest.mark.parametrize("hops", [1, 2, 3, 4])
def test_the_hops_of_a_bridge_question_are_a_chain_of_facts_from_its_subject_to_its_answer(
    world: ClosedWorld, hops: int
) -> None:
    for task in ask(world, "bridge", hops):
        assert task.hop_count == hops
        subject = next(
            name
            for name in world.entities
            if task.hops[0].need.startswith(f"{name}'s ") and name in task.question
        )
        for hop in task.hops:
            assert hop.query.startswith(f"{subject} ")
            label = hop.query.removeprefix(f"{subject} ")
            assert world.fact(subject, label).object == hop.answer
            assert hop.answer not in hop.query
            subject = hop.answer
        assert task.answers == ((subject,),)


@pytest.mark.parametrize("hops", [2, 3, 4])
def test_a_bridge_question_names_nothing_that_has_to_be_found_out(world: ClosedWorld, hops: int) -> None:
    for task in ask(world, "bridge", hops):
        assert not [hop.answer for hop in task.hops if hop.answer in task.question]


def test_a_chain_does_not_come_back_to_where_it_was() -> None:
    small = make_world(0, 15, 15)
    tasks = make_questions(small, "train", 100, hops=4)
    assert len(tasks) > 50
    for task in tasks:
        found = [hop.answer for hop in task.hops]
        assert len(set(found)) == 4
        assert not any(hop.query.startswith(f"{found[-1]} ") for hop in task.hops)


def test_a_comparison_is_won_by_the_right_one(world: ClosedWorld) -> None:
    measures = {
        "Who was born first, ": ("birth year", min),
        "Which city has more people, ": ("population", max),
        "Which company was founded first, ": ("founding year", min),
        "Which book came out first, ": ("publication year", min),
    }
    for task in ask(world, "comparison"):
        opening = next(opening for opening in measures if task.question.startswith(opening))
        label, best = measures[opening]
        pair = task.question.removeprefix(opening).removesuffix("?").split(" or ")
        values = {name: int(world.fact(name, label).object) for name in pair}
        winners = [name for name in pair if values[name] == best(values.values())]
        assert task.answers == ((winners[0],),)
        assert len(winners) == 1


def test_an_intersection_has_one_person_who_fits(world: ClosedWorld) -> None:
    people = [entity.name for entity in world.entities.values() if entity.kind == "person"]
    for task in ask(world, "intersection"):
        asked = re.fullmatch(r"Which (\w+) works for (.+)\?", task.question)
        assert asked is not None
        profession, company = asked.groups()
        fitting = [
            person
            for person in people
            if world.fact(person, "profession").object == profession
            and world.fact(person, "employer").object == company
        ]
        assert task.answers == ((fitting[0],),)
        assert len(fitting) == 1
        assert all(hop.answer not in hop.query for hop in task.hops)


def test_a_count_is_the_number_of_people_on_the_staff(world: ClosedWorld) -> None:
    people = [entity.name for entity in world.entities.values() if entity.kind == "person"]
    for task in ask(world, "counting"):
        company = task.question.removeprefix("How many people work for ").removesuffix("?")
        staff = {person for person in people if world.fact(person, "employer").object == company}
        assert task.answers == ((str(len(staff)),),)
        assert {hop.answer for hop in task.hops} == staff


@pytest.mark.parametrize("category", sorted(CATEGORIES))
def test_the_gold_passages_of_a_question_tell_its_facts(world: ClosedWorld, category: str) -> None:
    by_id = {passage.id: passage for passage in world.passages}
    for task in ask(world, category):
        texts = [f"{by_id[gold].title}: {by_id[gold].text}" for gold in task.gold_passage_ids]
        assert texts
        for hop in task.hops:
            assert any(hop.answer in text for text in texts)


@pytest.mark.parametrize("category", sorted(CATEGORIES))
def test_questions_of_the_splits_are_about_different_entities(world: ClosedWorld, category: str) -> None:
    for split, other in (("train", "test"), ("test", "train")):
        foreign = [entity.name for entity in world.entities.values() if entity.split == other]
        for task in make_questions(world, split, 60, category=category):  # type: ignore[arg-type]
            told = " ".join([task.question, *(f"{hop.query} {hop.answer}" for hop in task.hops)])
            assert task.split == split
            assert not [name for name in foreign if name in told]


def test_questions_of_the_splits_differ(world: ClosedWorld) -> None:
    train, test = (
        {task.question for task in make_questions(world, split, 200)} for split in ("train", "test")
    )
    assert train
    assert test
    assert train.isdisjoint(test)


def test_questions_are_distinct_and_repeatable(world: ClosedWorld) -> None:
    tasks = make_questions(world, "train", 50, hops=3)
    assert tasks == make_questions(world, "train", 50, hops=3)
    assert tasks != make_questions(world, "train", 50, hops=3, seed=1)
    assert len({task.id for task in tasks}) == len({task.question for task in tasks}) == 50


def test_fewer_questions_come_back_where_the_world_holds_no_more() -> None:
    small = make_world(0, 15, 15)
    companies = [e for e in small.entities.values() if e.kind == "company" and e.split == "train"]
    assert 0 < len(make_questions(small, "train", 500, category="counting")) <= len(companies)


def test_an_unknown_category_is_refused(world: ClosedWorld) -> None:
    with pytest.raises(ValueError, match="unknown category 'riddle'; expected one of"):
        make_questions(world, "train", 1, category="riddle")


@pytest.mark.parametrize("hops", [0, 5])
def test_a_chain_of_no_or_too_many_facts_is_refused(world: ClosedWorld, hops: int) -> None:
    with pytest.raises(ValueError, match=f"hops is {hops}; expected 1 to 4"):
        make_questions(world, "train", 1, hops=hops)
