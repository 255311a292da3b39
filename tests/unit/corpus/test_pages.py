"""Web pages, and what libraries make of other formats: what is content, and what it says."""

from __future__ import annotations

import pytest

from masksearch_agent.corpus.documents import DOCUMENT_PARSERS
from masksearch_agent.corpus.pages import HEADINGS_END, Section, sections_of


def told(page: str) -> list[Section]:
    return [(path, " ".join(text.split())) for path, text in sections_of(page) if path or text.strip()]


def test_a_heading_that_is_called_what_navigation_is_keeps_its_section() -> None:
    page = """<h1>Widgets</h1><p>All of them.</p><h2 id="navigation">Navigation</h2><p>Of ships.</p>
        <div class="section" id="footer"><h2>Footer</h2><p>Below.</p></div><dl><dt id="sidebar">sidebar</dt></dl>"""
    assert told(page) == [
        (("Widgets",), "All of them."),
        (("Widgets", "Navigation"), "Of ships."),
        (("Widgets", "Footer"), "Below. sidebar"),
    ]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ('<main><p>It [1] opened.</p><aside class="footnote">[1] Late.</aside></main>', "It [1] opened. [1] Late."),
        ('<article><aside class="sidebar"><p>Mind the gap.</p></aside></article>', "Mind the gap."),
        ('<main><p>Text.</p><aside><a href="a">All</a> <a href="b">pages</a></aside></main>', "Text."),
        ('<p>It opened.[1]</p><aside class="footnote brackets">[1] Late.</aside>', "It opened.[1] [1] Late."),
        ("<p>Text.</p><aside>About the author</aside>", "Text."),
        ("<blockquote>So be it.<footer>Ada</footer></blockquote><footer>Imprint</footer>", "So be it. Ada"),
        ('<table><tr><td class="linenos">1 2</td><td>a = b</td></tr></table>', "a = b"),
    ],
)  # fmt: skip
def test_a_note_beside_the_text_is_content_and_a_list_of_links_is_none(page: str, text: str) -> None:
    assert told(page) == [((), text)]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>10<sup>6</sup> ships, 10<sup>−3</sup> m, 101<sub>2</sub></p>", "10^6 ships, 10^−3 m, 101_2"),
        ('<p>In 1932<sup class="r"><a href="#n">3</a></sup> it opened.</p>', "In 1932^3 it opened."),
        ("<p>H<sub>2</sub>O on the 1<sup>st</sup>, x<sup>2</sup></p>", "H2O on the 1st, x2"),
    ],
)
def test_a_raised_number_makes_no_other_number_of_the_one_before_it(page: str, text: str) -> None:
    assert told(page) == [((), text)]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<details><summary>When?</summary>In 1932.</details>", "When? In 1932."),
        ("<fieldset><legend>Hours</legend>9 to 5</fieldset>", "Hours 9 to 5"),
        ("<div>Run<pre>dig</pre></div>", "Run dig"),
        ("<div>Piers<table><tr><td>Old</td></tr></table></div>", "Piers Old"),
        ("<p>One <b>wo</b>rd<sup>a</sup></p>", "One worda"),
    ],
)
def test_a_block_and_the_text_beside_it_are_two_words(page: str, text: str) -> None:
    assert told(page) == [((), text)]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<tr><td><p>port</p></td><td><p>7421</p></td></tr>", "port 7421"),
        (
            '<tr><td>\n<p class="c"><span>port</span></p>\n</td><td class="c"><p>7421</p>\n</td></tr>',
            "port 7421",
        ),
        ("<tr><th><p>port</p><td><p>7421</p>", "port 7421"),
        ("<tr><td><p>port</p><p>or socket</p></td></tr>", "port\n\nor socket\n"),
        ("<tr><td><p>ports</p><ul><li>7421</li></ul></td></tr>", "ports\n\n7421"),
    ],
)
def test_cells_that_are_written_as_paragraphs_stay_in_their_row(page: str, text: str) -> None:
    assert sections_of(f"<table>{page}<tr><td>key</td></tr></table>") == [((), f"{text}\nkey")]


def test_restructured_text_loses_neither_what_stands_alone_nor_what_is_called_navigation() -> None:
    raw = b"""Guide
=====

:Author: Ada

Navigation
----------

Of ships.

.. sidebar:: Beside

   Mind the gap.
"""
    sections = DOCUMENT_PARSERS[".rst"](raw, "").sections
    assert [(path, text.split()) for path, text in sections if path] == [
        (("Guide",), ["Author:", "Ada"]),
        (("Guide", "Navigation"), ["Of", "ships.", "Beside", "Mind", "the", "gap."]),
    ]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (
            "<table><caption>Fees</caption><tr><th>Name<th>Price<tr><td>Tea<td>3</table>",
            f"Fees\nName Price{HEADINGS_END}\nTea 3",
        ),
        # Of two tables the second has headings.
        (
            "<table><tr><td>Tea<td>3<tr><td>Milk<td>4</TABLE><table><tr><td>Of<td>2023<td>2024<tr><td>Tea<td>3<td>4</table>",
            f"Tea 3\nMilk 4\n\nOf 2023 2024{HEADINGS_END}\nTea 3 4",
        ),
        (
            "<table><tr><td>Name<td>Price<tr><td>&lt;5 &amp; up<td>-3</table>",
            f"Name Price{HEADINGS_END}\n<5 & up -3",
        ),
        # Rows of a table without headings.
        (
            "<table><tr><th><b>Type</b></th><td>Harbour</td></tr><tr><th>Town</th><td>Aldin</td></tr></table>",
            "Type Harbour\nTown Aldin",
        ),
        ("<table><tr><th>Type</th><td></td></tr></table>", "Type"),
        ("<table><tr><td>Opened<td>1932<tr><td>Closed<td>1950</table>", "Opened 1932\nClosed 1950"),
        (
            "<table><tr><td>1932<td>1950<td>Open<tr><td>1951<td>1952<td>Shut</table>",
            "1932 1950 Open\n1951 1952 Shut",
        ),
        ("<table><tr><td>Tea &amp; milk<td>-3 %<tr><td>Milk<td>4</table>", "Tea & milk -3 %\nMilk 4"),
    ],
)
def test_the_headings_of_a_table_are_known(page: str, text: str) -> None:
    [(_, found)] = sections_of(page)
    assert found.strip() == text
