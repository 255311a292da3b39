from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from masksearch_agent.corpus.pages import HEADINGS_END, Document, Section
from masksearch_agent.corpus.splitting import split_document, split_text
from masksearch_agent.text.words import count_words


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


def test_a_vertical_tab_stands_between_words():
    (piece,) = pieces_of("one\vtwo\n\nName | Role\v\nInes | cook")
    assert piece.split() == ["one", "two", "Name", "|", "Role", "Ines", "|", "cook"]


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


def rows_of(count: int, gap: str = " | ") -> list[str]:
    return [gap.join((f"Harbour {number}", str(1900 + number), "open all year")) for number in range(count)]


def pieces_of(text: str, max_words: int = 20) -> list[str]:
    return [piece.text for piece in split_document(Document("", [((), text)]), "t", max_words)]


def test_each_passage_of_a_table_that_is_cut_has_its_headings() -> None:
    table = "\n".join([f"Name | Founded | Season{HEADINGS_END}", *rows_of(400)])
    cut = pieces_of(f"Harbours of the north.\n\n{table}\n\nSo much of them.")
    assert (cut[0], cut[-1]) == ("Harbours of the north.", "So much of them.")
    headings, rows = zip(*(piece.split("\n", 1) for piece in cut[1:-1]), strict=True)
    assert set(headings) == {"Name | Founded | Season"}
    assert "\n".join(rows).split("\n") == rows_of(400)
    assert max(map(count_words, cut)) <= 20


def test_a_table_that_fits_is_whole_and_stays_with_its_text() -> None:
    assert pieces_of(f"Two:\n\na | b{HEADINGS_END}\n1 | 2") == ["Two:\n\na | b\n1 | 2"]


def test_headings_that_leave_no_room_for_rows_stand_once() -> None:
    wide = " | ".join(f"column {number}" for number in range(6))
    cut = pieces_of("\n".join([wide + HEADINGS_END, *rows_of(20)]))
    assert [piece for piece in cut if "column 0" in piece] == [cut[0]]
    assert "\n".join(cut).split("\n") == [wide, *rows_of(20)]


def test_a_row_that_is_longer_than_a_passage_is_cut_under_its_headings() -> None:
    row = "Orly | " + " ".join(str(number) for number in range(60))
    cut = pieces_of(f"Name | Numbers{HEADINGS_END}\n{row}")
    assert {piece.split("\n")[0] for piece in cut} == {"Name | Numbers"}
    assert " ".join(piece.split("\n", 1)[1] for piece in cut) == row
    assert max(map(count_words, cut)) <= 20
