from __future__ import annotations

import random

import pytest
from fakes.passages import make_passages

from masksearch_agent.retrieval.phrase_sketch import PhraseSketch
from masksearch_agent.text.matching import contains_phrase

PASSAGES = make_passages(
    "Ann Bo founded the Velling Works in Orly.",
    "Orly is a harbour town; Bo, Ann lived there.",
    "In 1641–1685 the “Orly” stood at 维林大桥.",
)


@pytest.fixture(scope="module")
def sketch() -> PhraseSketch:
    return PhraseSketch(PASSAGES)


def test_a_phrase_that_no_passage_holds_is_denied(sketch: PhraseSketch) -> None:
    assert not sketch.may_hold("Gothenburg")
    assert not sketch.may_hold("founded Orly")


def test_what_only_the_excepted_passage_holds_is_denied(sketch: PhraseSketch) -> None:
    assert sketch.may_hold("Velling Works")
    assert not sketch.may_hold("Velling Works", besides="p0")
    assert sketch.may_hold("Velling Works", besides="p1")
    assert not sketch.may_hold("Ann Bo", besides="p0"), "the other one holds the words in another order"
    assert sketch.may_hold("Orly", besides="p0")


@pytest.mark.parametrize(
    "phrase", ["the VELLING works", "T1", "1685", "orly", "Orly”", "大桥", "harbour, town"]
)
def test_a_phrase_is_read_as_matching_reads_it(sketch: PhraseSketch, phrase: str) -> None:
    assert any(contains_phrase(f"{each.title}\n{each.text}", phrase) for each in PASSAGES)
    assert sketch.may_hold(phrase)


def test_a_phrase_without_words_is_held_by_nobody(sketch: PhraseSketch) -> None:
    assert not sketch.may_hold("the —")
    assert not PhraseSketch(make_passages("—")).may_hold("Orly")


def test_no_phrase_is_denied_that_is_there() -> None:
    draw = random.Random(0)
    words = [f"{letter}{number}" for letter in "abcdef" for number in range(8)]
    passages = make_passages(*(" ".join(draw.choices(words, k=30)) for _ in range(40)))
    sketch = PhraseSketch(passages)
    denied = 0
    for _ in range(2000):
        phrase, besides = " ".join(draw.choices(words, k=draw.randint(1, 3))), draw.choice(passages).id
        is_held = any(contains_phrase(f"{p.title}\n{p.text}", phrase) for p in passages if p.id != besides)
        denied += not sketch.may_hold(phrase, besides)
        assert sketch.may_hold(phrase, besides) or not is_held
    assert denied > 500
