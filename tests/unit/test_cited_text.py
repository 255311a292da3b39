from __future__ import annotations

import pytest

from masksearch_agent.cited_text import cited_text, uncited_text, url_of
from masksearch_agent.records import Citation, Passage


def citation(passage: Passage, number: int = 1, **parts: object) -> Citation:
    return Citation(number, passage, passage.text, 0, len(passage.text), "Ada", 0, 3, **parts)  # type: ignore[arg-type]


def test_a_title_is_a_link_that_nothing_in_it_can_break_out_of() -> None:
    passage = Passage("p", "A [b](https://evil)", "One\nline.", source="https://x.org/a (b)>")
    assert cited_text("Ada", [citation(passage)]) == (
        "Ada [1]\n\n[1] [A \\[b\\](https://evil)](https://x.org/a%20%28b%29%3E): “One line.”"
    )


def test_only_addresses_on_the_web_are_links() -> None:
    assert url_of(Passage("p", "T", "x", source="javascript:alert(1)")) == ""
    assert url_of(Passage("p", "T", "x", source="f.txt", metadata={"link": "http://x"})) == "http://x"
    found = citation(Passage("p", "", "x", source="f.txt"), is_claimed=False)
    assert cited_text("Ada", [found]) == "Ada [1]\n\n[1] f.txt: “x” (found, not cited)"


def test_without_citations_the_answer_stands_alone() -> None:
    assert cited_text("Ada", []) == "Ada"


def test_a_passage_of_no_title_and_no_place_is_told_by_what_it_says() -> None:
    assert cited_text("Ada", [citation(Passage("3f9c", "", "Ada did."))]) == "Ada [1]\n\n[1] “Ada did.”"
    web = Passage("3f9c", "", "x", metadata={"url": "https://x.org/a"})
    assert cited_text("Ada", [citation(web)]) == "Ada [1]\n\n[1] [https://x.org/a](https://x.org/a): “x”"
    silent = Citation(1, Passage("3f9c", "", "x"), "", 0, 0, "Ada", 0, 3)
    assert cited_text("Ada", [silent]) == "Ada [1]\n\n[1]"


@pytest.mark.parametrize("answer", ["```\nx\n```", "| Ada | Harrow |"])
def test_a_number_stays_out_of_the_code_or_the_table_that_it_follows(answer: str) -> None:
    whole = Citation(1, Passage("p", "T", "x"), "", 0, 0, answer, 0, len(answer))
    assert cited_text(answer, [whole]) == f"{answer}\n\n[1]\n\n[1] T"
    assert uncited_text(f"{answer}\n\n[1]\n\n[1] T", is_cited=True) == answer


def test_what_was_put_to_an_answer_is_taken_out_again() -> None:
    cited = "Ada [1][12] built. So [3].\n\n[1] [T](https://x.org): “Ada did.”\n[3] T\n[12]"
    assert uncited_text(cited, is_cited=True) == "Ada built. So."
    assert uncited_text("Ada [4] [1]\n\n[1] T", is_cited=True) == "Ada [4]"


def test_a_text_of_others_is_left_alone_unless_it_cites_and_quotes_as_ours_do() -> None:
    assert uncited_text("Ada [1].\n\n[1] “Ada did.”") == "Ada."
    for text in (
        "Take [1] or [2]:\n\n[1] Red\n[2] Blue",
        "Take:\n\n[1] “Red”\n[2] “Blue”",
        "Article [2]",
        "",
    ):
        assert uncited_text(text) == text
