from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from masksearch_agent.corpus.pages import Document, Section
from masksearch_agent.corpus.splitting import split_document, split_text


def test_short_paragraphs_share_a_passage():
    assert split_text("One two.\n\nThree four.\n \nFive.", 4) == ["One two.\n\nThree four.", "Five."]


def test_a_long_paragraph_is_cut_between_sentences():
    assert split_text("A b c. D e! F g h? I.", 5) == ["A b c. D e!", "F g h? I."]


def test_a_long_sentence_is_cut_between_words():
    assert split_text("a b c d e f g", 3) == ["a b c", "d e f", "g"]


@pytest.mark.parametrize("blank", ["", "  \n\n \n"])
def test_blank_text_has_no_passages(blank: str):
    assert split_text(blank, 10) == []


@given(st.text(alphabet="ab .!?\n", max_size=300), st.integers(min_value=1, max_value=12))
@example("?a ?", 1)  # Between "?" and "a" ends a sentence, though no word.
def test_no_character_is_lost_and_no_piece_too_long(text: str, max_words: int):
    pieces = split_text(text, max_words)
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(0 < len(piece.split()) <= max_words for piece in pieces)


def test_chinese_text_is_cut_between_its_sentences():
    text = "他说：“走吧。”我们走了。雨停了！天晴了？"
    assert split_text(text, 10) == ["他说：“走吧。”我们走了。", "雨停了！天晴了？"]


def test_a_long_chinese_sentence_is_cut_between_characters():
    assert split_text("一二三四，五六七八九十百", 5) == ["一二三四，五", "六七八九十", "百"]


@pytest.mark.parametrize(
    ("sections", "passages"),
    [
        (
            [(("Report",), ""), (("Report", "Revenue was 5 million"), "")],
            [("Report › Revenue was 5 million", "Revenue was 5 million")],
        ),
        (
            [(("All costs rose",), ""), (("Plan",), "Hire."), (("All costs rose",), "")],
            [("All costs rose", "All costs rose"), ("Plan", "Hire."), ("All costs rose", "All costs rose")],
        ),
        ([(("Plan",), " \n"), (("Plan",), "Hire.")], [("Plan", "Hire.")]),
        ([(("Plan",), "Hire."), (("Gallery",), "")], [("Plan", "Hire.")]),
        ([((), ""), (("Only this",), "")], [("Only this", "Only this")]),
        ([((), " ")], []),
    ],
)
def test_a_heading_with_nothing_below_it_is_text(sections: list[Section], passages: list[tuple[str, str]]):
    found = split_document(Document("", sections), "name", 100)
    assert [(piece.title, piece.text) for piece in found] == passages
