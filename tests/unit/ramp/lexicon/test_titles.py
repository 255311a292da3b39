from __future__ import annotations

import pytest

from masksearch_agent.ramp.lexicon.titles import (
    context_of,
    heading_name,
    is_manual,
    page_title,
    plain_name,
    sense_of,
)


@pytest.mark.parametrize(
    ("title", "context"),
    [
        ("10.4. Quality of Tea", "Quality of Tea"),
        ("Chapter 3. Kitchen Services: Kettle, Oven, Sink", "Kitchen Services"),
        ("Brewer (film)", "Brewer"),
        ("List of teas of Assam", "teas of Assam"),
        ("kettle — boil water — Tea 3.11 documentation", "kettle"),
        ("72.1. Overview", ""),
        ("Appendix B. Short Introduction", ""),
        ("", ""),
    ],
)
def test_a_title_tells_the_context_or_says_nothing(title: str, context: str) -> None:
    assert context_of(title) == context


def test_a_heading_loses_its_number_and_its_parentheses() -> None:
    assert heading_name("Chapter 7. Kettles (Electric)") == "Kettles"


def test_the_headings_over_a_passage_are_no_part_of_the_name_of_its_page() -> None:
    title = "9.1. Tea Functions (Hot) › 9.1.2. Notes"
    assert page_title(title) == "9.1. Tea Functions (Hot)"
    assert (heading_name(title), plain_name(title), sense_of(title)) == (
        "Tea Functions",
        "9.1. Tea Functions",
        "Hot",
    )


@pytest.mark.parametrize(
    ("title", "is_it"),
    [("9.1. Tea", True), ("POUR TEA › Notes", True), ("pg_tea", True), ("Tea", False), ("", False)],
)
def test_a_manual_is_known_by_its_titles(title: str, is_it: bool) -> None:
    assert is_manual(title) is is_it
