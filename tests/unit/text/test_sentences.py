from __future__ import annotations

import pytest

from masksearch_agent.text.sentences import sentence_spans


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two!  Three?", ["One.", "Two!", "Three?"]),
        (" A line\nthat Goes\n on. \n", ["A line\nthat Goes\n on."]),
        ("A title\n\nA list\n- of one\n2. and two", ["A title", "A list", "- of one", "2. and two"]),
        ("Dr. Ada B. Low came. It cost 3.50 francs.", ["Dr. Ada B. Low came.", "It cost 3.50 francs."]),
        ("He was born c. 1900, i.e. late. So.", ["He was born c.", "1900, i.e. late.", "So."]),
        ("“It is.” He said so.", ["“It is.”", "He said so."]),
        ("它是城市。它很大！真的", ["它是城市。", "它很大！", "真的"]),
        (" \n ", []),
    ],
)
def test_sentences_have_their_places(text: str, sentences: list[str]) -> None:
    assert [text[start:end] for start, end in sentence_spans(text)] == sentences
