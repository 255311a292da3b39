from __future__ import annotations

import pytest
from fakes.spans import find_span

from masksearch_agent.ramp.extraction.whole_spans import is_part, is_said_beside


@pytest.mark.parametrize(
    ("text", "fragment", "label", "expected"),
    [
        ("The first volume is A Game of Thrones of 1996.", "Thrones", "TERM", True),
        ("Ann Bo came in 1923. Later Bo died in Orly.", "Ann Bo", "PERSON", False),
        ("Later Bo died in Orly, where Ann Bo was born.", "Bo", "PERSON", True),
        ("In Orly stands the Orly Club.", "Orly", "GPE", False),
        ("The actions are CONTINUE and GO TO only.", "GO", "IDENTIFIER", True),
        ("See /etc/hosts.conf for more of it.", "hosts", "TERM", True),
        ("Brewing is hot (see Section 32.2) at night.", "32.2", "CARDINAL", True),
        ("The Danube rises in the Black Forest.", "Danube", "LOC", False),
    ],
)
def test_a_part_of_a_name_or_a_path_is_told_from_the_whole(
    text: str, fragment: str, label: str, expected: bool
) -> None:
    assert is_part(text, find_span(text, fragment, label)) is expected


@pytest.mark.parametrize(
    ("text", "fragment", "expected"),
    [
        ("There is a FAQ (Frequently Asked Questions) on it.", "FAQ", True),
        ("There are Frequently Asked Questions (FAQ) on it.", "FAQ", True),
        ("A maintenance plan helps the maintainers at work.", "maintainers", True),
        ("As told in Section 14.7, “Forensic Analysis” in full.", "Forensic Analysis", True),
        ("The opera was written in Vienna (1923) by her.", "Vienna", False),
    ],
)
def test_what_stands_beside_in_other_words_is_not_masked(text: str, fragment: str, expected: bool) -> None:
    assert is_said_beside(text, find_span(text, fragment), "Title") is expected
