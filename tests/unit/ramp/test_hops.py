from __future__ import annotations

from functools import partial

import pytest
from fakes.spans import find_span

from masksearch_agent.ramp.hops import derive_hops, mask_spans
from masksearch_agent.ramp.spans import Span
from masksearch_agent.records import Hop, Passage
from masksearch_agent.text.matching import contains_phrase

TEXT = (
    "Velling Works makes wool. It was founded in 1923 by Ann Bo in the harbour town of Orly, as Bo said"
    " later. Its owner is Cy Do."
)
PASSAGE = Passage("p", "Velling Works", TEXT)


span_of = partial(find_span, TEXT)


def test_masking_replaces_the_spans_and_nothing_else() -> None:
    masked = mask_spans(PASSAGE, [span_of("1923"), span_of("Ann Bo"), span_of("Cy Do")])
    assert masked == (
        "Velling Works makes wool. It was founded in [mask] by [mask] in the harbour town of Orly, as Bo said"
        " later. Its owner is [mask]."
    )


def test_a_query_is_the_title_and_the_content_words_of_the_sentence() -> None:
    year, owner = derive_hops(PASSAGE, [span_of("1923"), span_of("Cy Do")])
    assert year.query == "Velling Works founded Ann Bo harbour town Orly said"
    assert owner.query == "Velling Works owner"
    assert (year.answer, owner.answer) == ("1923", "Cy Do")


def test_a_query_holds_no_word_of_any_masked_span() -> None:
    for hop in derive_hops(PASSAGE, [span_of("1923"), span_of("Ann Bo"), span_of("Orly")]):
        assert not any(contains_phrase(hop.query, word) for word in ("1923", "Ann", "Bo", "Orly"))


def test_a_long_sentence_gives_the_words_nearest_to_the_mask() -> None:
    words = [f"word{index}" for index in range(40)]
    text = " ".join(["Start", *words[:20], "Ann", *words[20:]])
    start = text.index("Ann")
    (hop,) = derive_hops(Passage("p", "Title", text), [Span(start, start + 3, "Ann", "PERSON")])
    assert hop.query == "Title " + " ".join(words[14:26])


def test_a_need_names_the_mask_and_shows_its_place() -> None:
    first, second, third = derive_hops(PASSAGE, [span_of("1923"), span_of("Ann Bo"), span_of("Cy Do")])
    assert first.need == 'mask 1, in "was founded in ___ by … in"'
    assert second.need == 'mask 2, in "in … by ___ in the harbour"'
    assert third.need == 'mask 3, in "Its owner is ___."'


def test_the_only_mask_has_no_number() -> None:
    (hop,) = derive_hops(PASSAGE, [span_of("Cy Do")])
    assert hop.need == '"Its owner is ___."'


@pytest.mark.parametrize(
    ("fragment", "label", "need"),
    [
        ("Cy Do", "PERSON", 'the person in "Its owner is ___."'),
        ("1923", "DATE", 'the year in "was founded in ___ by Ann Bo"'),
        ("later", "DATE", 'the date in "as Bo said ___. Its owner"'),
        ("wool", "raw material", 'the raw material in "Velling Works makes ___. It was"'),
    ],
)
def test_a_need_names_the_kind_of_thing_where_that_is_wanted(fragment: str, label: str, need: str) -> None:
    span = span_of(fragment, label)
    (hop,) = derive_hops(PASSAGE, [span], names_kinds=True)
    assert hop.need == need
    assert f"the {hop.kind}" == need.partition(" in ")[0]


def test_the_needs_of_several_masks_name_kinds_too() -> None:
    spans = [span_of("1923", "DATE"), span_of("Cy Do")]
    year, _ = derive_hops(PASSAGE, spans, names_kinds=True)
    assert year.need == 'the year in mask 1, in "was founded in ___ by Ann Bo"'
    assert year.kind == "year"


def test_a_need_that_shows_only_a_place_names_no_kind() -> None:
    for hop in derive_hops(PASSAGE, [span_of("1923"), span_of("Cy Do")]):
        assert hop.kind == ""


def test_a_span_that_knows_its_hop_keeps_it() -> None:
    hop = Hop("the founder of Velling Works", "Velling Works founder", "Ann Bo")
    assert derive_hops(PASSAGE, [span_of("Ann Bo", hop=hop)]) == (hop,)
