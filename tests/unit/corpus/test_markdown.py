"""Markdown: front matter, and what looks like a tag and is none."""

from __future__ import annotations

import pytest

from masksearch_agent.corpus.markdown import read_markdown


def read(text: str) -> tuple[str, str]:
    title, sections = read_markdown(text.encode(), "")[:2]
    return title, " ".join(" ".join(text for _, text in sections).split())


@pytest.mark.parametrize(
    "front",
    [
        "---\ntitle: The Harbour\n---\n",
        "---\r\ntitle: The Harbour\r\n---\r\n",
        "---\ntitle: The Harbour\n...\n",
        '+++\ntitle = "The Harbour"\ndate = 2024-05-01\n+++\n',
        "---\ntitle: The Harbour\nby: a: b\n---\n",
        '---\ntitle: "The Harbour"\nlogo: !ENV LOGO\n---\n',
    ],
)
def test_front_matter_of_any_kind_gives_the_title_and_is_no_text(front: str) -> None:
    assert read(f"{front}\nIt opened.\n\n---\n\nIt closed.") == ("The Harbour", "It opened. It closed.")


def test_a_title_with_a_colon_is_a_title() -> None:
    assert read("---\ntitle: Bridges: a history\n---\nText.") == ("Bridges: a history", "Text.")


def test_text_between_two_lines_of_hyphens_is_text() -> None:
    assert read("---\n\nThe first part.\n\n---\n\nThe second.") == ("", "The first part. The second.")


@pytest.mark.parametrize(
    "text",
    [
        "Returns a list<int> or Map<String> of <name>s.",
        "The <script> and <style> elements. More.",
        "The <title> element names a page, the <nav> element leads on, <select> asks.",
        "<!-- a remark without an end.",
    ],
)
def test_what_looks_like_a_tag_hides_nothing(text: str) -> None:
    assert read(f"{text}\n\nThe next paragraph.") == ("", f"{text} The next paragraph.")


def test_a_tag_with_an_end_is_a_tag() -> None:
    assert read('Press <kbd>Q</kbd>,<br>or <a name="x">not.') == ("", "Press Q, or not.")


def test_a_callout_of_notion_s_is_text() -> None:
    assert read("Text.\n\n<aside>\n\U0001f4a1 Mind the gap.\n\n</aside>\n") == (
        "",
        "Text. \U0001f4a1 Mind the gap.",
    )


@pytest.mark.parametrize("mark", ["", " {#usage}", " { #usage .wide }", "{: #usage }", " {.unnumbered}"])
def test_what_a_heading_is_called_in_links_is_no_part_of_it(mark: str) -> None:
    sections = read_markdown(
        f"# Sets {{1, 2}}\n\nAll.\n\n## Usage{mark}\n\nCall it {{#so}}".encode(), ""
    ).sections
    assert [(path, text.strip()) for path, text in sections[1:]] == [
        (("Sets {1, 2}",), "All."),
        (("Sets {1, 2}", "Usage"), "Call it {#so}"),
    ]
