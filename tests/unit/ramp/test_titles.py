from __future__ import annotations

import pytest

from masksearch_agent.ramp.titles import context_of, heading_name


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
