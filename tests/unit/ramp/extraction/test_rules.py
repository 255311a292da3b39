from __future__ import annotations

import dataclasses
from collections import Counter

import pytest
from fakes.spans import find_span

from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.ramp.extraction.rules import passage_flaw, usable_spans
from masksearch_agent.ramp.spans import TERM, Span
from masksearch_agent.records import Hop, Passage

SETTINGS = RampSettings(max_span_words=3, min_passage_words=5)
PROSE = "Ann Bo met Cy Do in Orly in 1923, and two years later Cy Do left for the Bay of Biscay and wool."


def judge(passage: Passage, *spans: Span) -> tuple[tuple[str, ...], dict[str, int]]:
    drops: Counter[str] = Counter()
    kept = usable_spans(passage, spans, SETTINGS, drops)
    return tuple(span.text for span in kept), dict(drops)


@pytest.mark.parametrize(
    ("fragment", "rule"),
    [
        ("Ann Bo", "first_token"),
        ("Cy Do", "repeated"),
        ("the Bay of Biscay", "long_span"),
        ("Orly", "in_title"),
        ("two years", "common_words"),
    ],
)
def test_an_unfair_span_is_dropped_under_its_rule(fragment: str, rule: str) -> None:
    assert judge(Passage("p", "The Orly meeting", PROSE), find_span(PROSE, fragment)) == ((), {rule: 1})


def test_a_fair_span_is_kept() -> None:
    assert judge(Passage("p", "Meeting", PROSE), find_span(PROSE, "1923")) == (("1923",), {})


def test_a_span_of_a_skipped_kind_is_dropped() -> None:
    drops: Counter[str] = Counter()
    settings = SETTINGS.model_copy(update={"skipped_labels": ("NORP", "ENTITY")})
    assert usable_spans(Passage("p", "Meeting", PROSE), [find_span(PROSE, "1923")], settings, drops) == ()
    assert drops == {"skipped_label": 1}


def test_a_string_inside_another_word_is_no_repetition() -> None:
    text = "The duke of York never saw Yorkshire in all his long life."
    assert judge(Passage("p", "A duke", text), find_span(text, "York")) == (("York",), {})


def test_repetition_is_seen_through_case_and_punctuation() -> None:
    text = "In the U.S. he sang, and then in the u.s. he danced for years."
    assert judge(Passage("p", "t", text), find_span(text, "U.S.")) == ((), {"repeated": 1})


def test_a_lower_case_fact_of_a_closed_world_is_kept() -> None:
    fact = find_span(PROSE, "wool", hop=Hop("the product of it", "it product", "wool"))
    assert judge(Passage("p", "Meeting", PROSE), fact) == (("wool",), {})


def test_overlapping_spans_give_way_to_the_longer_one() -> None:
    text = "It was in the New York State Museum that he worked."
    longer, shorter = find_span(text, "New York State"), find_span(text, "New York")
    assert judge(Passage("p", "Museum", text), shorter, longer) == (("New York State",), {"overlap": 1})


def test_a_span_over_two_lines_cannot_be_a_line_of_an_answer() -> None:
    text = "He lived in New\nYork for all of his life."
    assert judge(Passage("p", "t", text), find_span(text, "New\nYork")) == ((), {"line_break": 1})


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        (PROSE, ""),
        ("Too short.", "short_passage"),
        ("A passage that holds [mask] in its own text already.", "holds_mask_marker"),
        ("{{Infobox|name=[[Orly]]|pop=12|area=3}} of a town in the north there", "markup"),
        ("Works of hers:\n- One\n- Two in Orly and later in Paris too\n- Three\n- Four", "list"),
        ("First line is long enough to be prose here.\nSecond line is long enough too, of course.", ""),
    ],
)
def test_passages_that_tell_too_little_are_named(text: str, flaw: str) -> None:
    assert passage_flaw(Passage("p", "t", text), SETTINGS) == flaw


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("Prev Up Next\nF.24. old_snapshot Home F.26. passwordcheck", "navigation"),
        (
            "59.2.12. Routines for Reparameterization 59.3. Helper Functions 59.4. Query Planning 59.5. Row Locking in "
            "Wrappers.",
            "table_of_contents",
        ),
        (
            "uuid universally unique identifier xml data smallint real integer numeric decimal bigint",
            "no_prose",
        ),
        ("The cursor reads in commands from the file, and it writes them back to the disk.", ""),
        (
            "The cursor reads in commands from the file, and writes them. For the next step, home in on Up.",
            "",
        ),
        ("猎鹰号是一艘货船，由安博于1923年建造，后来停泊在奥利港，至今仍然在那里。", ""),
    ],
)
def test_what_is_no_prose_is_no_source(text: str, flaw: str) -> None:
    assert passage_flaw(Passage("p", "t", text), SETTINGS) == flaw


@pytest.mark.parametrize(
    ("fragment", "rule"),
    [
        ("12", "bare_number"),
        ("Three", "bare_number"),
        ("Oslo", "enumeration"),
        ("Bonn", "no_sentence"),
        ("1923", ""),
    ],
)
def test_numbers_of_nothing_and_items_of_lists_are_not_masked(fragment: str, rule: str) -> None:
    text = "They went by way of Paris, Oslo, and Bonn in 1923, and there were 12 of them. Three came back."
    span = find_span(text, fragment)
    span = dataclasses.replace(span, flaw="no_sentence") if fragment == "Bonn" else span
    kept, drops = judge(Passage("p", "Meeting", text), span)
    assert (kept, drops) == (((), {rule: 1}) if rule else ((fragment,), {}))


@pytest.mark.parametrize("fragment", ["Paris", "Rome"])
def test_the_ends_of_a_list_are_items_of_it_too(fragment: str) -> None:
    text = "The towns that she saw were Paris, Oslo, Bonn, and Rome of old."
    assert judge(Passage("p", "Journey", text), find_span(text, fragment)) == ((), {"enumeration": 1})


@pytest.mark.parametrize(("title", "drops"), [("9.1. Brewing", {"no_identifier": 1}), ("Brewing", {})])
def test_a_common_noun_of_a_chapter_is_not_masked(title: str, drops: dict[str, int]) -> None:
    text = "The kettle waits for the lids of all pots to close."
    term = dataclasses.replace(find_span(text, "lids"), label=TERM)
    assert judge(Passage("p", title, text), term)[1] == drops


@pytest.mark.parametrize(
    ("text", "fragment", "rule"),
    [
        ("The teapot is old. Manually brewed tea is what all guests like best.", "Manually", "no_identifier"),
        ("The teapot is old. It hangs above the stove of Kettle_Room since then.", "Kettle_Room", "leaning"),
        (
            "The server is old.\n- Manually brewed tea is what all guests like best.",
            "Manually",
            "no_identifier",
        ),
        (
            "The cup is old. Values are filled as per Tea_Pot or Kettle_Room at noon.",
            "Kettle_Room",
            "enumeration",
        ),
        (
            "The cup is old. The forms Big_Cup, Old_Cup, Tea_Pot fetch the tea at noon.",
            "Tea_Pot",
            "enumeration",
        ),
        (
            "The cup is old. Columns Tea_Pot, Cup_Count and Cup_Size contain the tea of noon.",
            "Tea_Pot",
            "enumeration",
        ),
        ("The cup is old. For this function the guests call Fill_Cup at noon.", "Fill_Cup", "leaning"),
    ],
)
def test_a_sentence_of_a_manual_that_leans_on_others_is_not_masked(
    text: str, fragment: str, rule: str
) -> None:
    assert judge(Passage("p", "9.1. Tea", text), find_span(text, fragment)) == ((), {rule: 1})
    assert judge(Passage("p", "Tea", text), find_span(text, fragment)) == ((fragment,), {})


@pytest.mark.parametrize(
    "text",
    [
        "By default, Tea_Level is set for all the pots of the old kitchen.",
        "The water is kept above 100 degrees by Tea_Level in all the pots.",
    ],
)
def test_a_whole_sentence_of_a_manual_is_masked(text: str) -> None:
    assert judge(Passage("p", "9.1. Pots", text), find_span(text, "Tea_Level")) == (("Tea_Level",), {})
