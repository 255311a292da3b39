"""What LangChain has loaded becomes passages that can be stored and found."""

from __future__ import annotations

from langchain_core.documents import Document

from masksearch_agent.corpus.loaded import passages_of_loaded
from masksearch_agent.corpus.splitting import MAX_TITLE_CHARS


def test_half_a_character_in_a_document_is_cleaned_and_costs_no_run() -> None:
    text = "It is called e\ud835, or cafe\u0301.\r\nIt has\x07 a pier."
    [dirty, clean] = passages_of_loaded(
        [
            Document(page_content=text, metadata={"source": "a\ud835.pdf", "title": "The\n\ud835 pier"}),
            Document(page_content="It opened."),
        ]
    )
    assert (dirty.title, dirty.text) == ("The \ufffd pier", "It is called e\ufffd, or café.\nIt has a pier.")
    assert dirty.source.encode() == "a\ufffd.pdf".encode()
    assert clean.text == "It opened."


def test_a_title_is_text_whatever_the_metadata_hold() -> None:
    titles = [1984, float("nan"), ["a", "b"], "t" * 300]
    documents = [
        Document(page_content="Text.", metadata={"title": title, "source": "a/b.pdf"}) for title in titles
    ]
    found = [passage.title for passage in passages_of_loaded(documents)]
    assert found == ["1984", "b", "b", "t" * (MAX_TITLE_CHARS - 1) + "…"]
