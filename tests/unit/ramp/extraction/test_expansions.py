from __future__ import annotations

import pytest

from masksearch_agent.ramp.extraction.expansions import expansions


@pytest.mark.parametrize(
    ("text", "letters", "whole"),
    [
        ("It speaks the Simple Tea Transfer Protocol (STTP).", "STTP", "Simple Tea Transfer Protocol"),
        ("The pot obeys RFT (Rules for Teapots) at all hours.", "RFT", "Rules for Teapots"),
        ("A member of the Guild of Master Brewers (GMB), she left.", "GMB", "Guild of Master Brewers"),
    ],
)
def test_what_letters_stand_for_is_asked_for(text: str, letters: str, whole: str) -> None:
    (span,) = expansions(text, "12.1. Kettle")
    assert (span.text, span.question) == (whole, f"In the context of Kettle, what does {letters} stand for?")
    assert text[span.start : span.end] == whole
    assert span.flaw  # The letters beside it would tell a mask.


@pytest.mark.parametrize(
    "text",
    [
        "The Royal Brewing House (London) is old.",
        "A pot of tea (PT) stands there.",
        "The Simple Tea Protocol (TSP) is old.",
        "The Guild's Master Brewer's (GMB) house.",
    ],
)
def test_other_parentheses_tell_nothing_of_letters(text: str) -> None:
    assert not list(expansions(text, "Tea"))


def test_a_title_is_not_asked_for_by_its_letters() -> None:
    assert not list(
        expansions("The Simple Tea Transfer Protocol (STTP) is old.", "Simple Tea Transfer Protocol")
    )


def test_letters_that_are_the_title_need_no_context() -> None:
    (span,) = expansions("RFT (Rules for Teapots) is a book. RFT is old.", "RFT")
    assert span.question == "What does RFT stand for?"


def test_letters_are_not_asked_for_where_the_page_tells_nothing_or_too_much() -> None:
    text = "A member of the Guild of Master Brewers (GMB) left the GMB. The GMB is old."
    assert list(expansions(text, "GMB medals"))
    assert not list(expansions(text, ""))
    assert not list(expansions(text, "Guild of Master Brewers Ltd (1912)"))


def test_letters_that_a_title_does_not_have_are_not_what_its_page_is_about() -> None:
    text = "A member of the Guild of Master Brewers (GMB) left the GMB. The GMB is old."
    assert not list(expansions(text, "Otto Brandt"))
