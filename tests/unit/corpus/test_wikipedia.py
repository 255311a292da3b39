from __future__ import annotations

import bz2
import html
import time
from pathlib import Path

import pytest

pytest.importorskip("mwparserfromhell")

from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.corpus.report import CorpusReport
from masksearch_agent.corpus.wikipedia import article_text
from masksearch_agent.errors import CorpusError

ARTICLE = """{{Short description|Bridge}}
{{Infobox bridge
| name = Sydney Harbour Bridge
| designer = {{ubl|[[John Bradfield|Bradfield]]|Others}}
}}
[[File:Bridge.jpg|thumb|The '''bridge''' and [[Sydney]]]]
The '''Sydney Harbour Bridge''' ({{IPAc-en|s|ɪ}}; opened 1932) is a [[steel]] [[arch bridge|bridge]]<ref name="a">{{cite web|title=X}}</ref>
in {{lang|fr|Sydney}}. It is {{convert|134|m|ft}} high.&nbsp;It has [https://example.org eight lanes].
{| class="wikitable"
! Year !! Toll
|-
| 1932 || 6d {{ref|1}}
|}
== History ==
It was designed by [[John Bradfield]].
<!-- hidden -->
=== Opening ===
It opened on 19 March 1932.
== References ==
{{reflist}}
Books about it.
=== Notes ===
More books.
== Toll ==
Cars pay.
[[Category:Bridges]] [[de:Brücke]]
"""  # noqa: E501


def page(number: int, title: str, text: str, namespace: int = 0, extra: str = "") -> str:
    return (
        f"<page><title>{title}</title><ns>{namespace}</ns><id>{number}</id>{extra}<revision><id>{number}</id>"
        f"<timestamp>2024-01-01T00:00:00Z</timestamp><model>wikitext</model><format>text/x-wiki</format>"
        f'<text bytes="1" xml:space="preserve">{html.escape(text)}</text><sha1>x</sha1></revision></page>'
    )


def dump(*pages: str) -> bytes:
    head = (
        '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11"><siteinfo>'
        "<sitename>W</sitename><dbname>w</dbname><namespaces>"
        '<namespace key="0" case="first-letter" /><namespace key="6" case="first-letter">Datei</namespace>'
        "</namespaces></siteinfo>"
    )
    return (head + "".join(pages) + "</mediawiki>").encode()


def test_only_the_prose_of_an_article_is_left():
    assert article_text(ARTICLE).split("\n\n") == [
        "The Sydney Harbour Bridge (opened 1932) is a steel bridge",
        "in Sydney. It is 134 m high. It has eight lanes.",
        "It was designed by John Bradfield.",
        "It opened on 19 March 1932.",
        "Cars pay.",
    ]


def test_a_dump_gives_its_articles_and_counts_the_rest(tmp_path: Path):
    pages = (
        page(1, "Bridge", "A [[Datei:X.jpg|thumb]]'''bridge''' crosses."),
        page(2, "Brigde", "#REDIRECT [[Bridge]]", extra='<redirect title="Bridge" />'),
        page(3, "Mercury", "'''Mercury''' may be: \n* [[Planet]]\n{{disambiguation}}"),
        page(4, "Talk:Bridge", "Chatter.", namespace=1),
        page(5, "Empty", "{{Infobox}}"),
        page(6, "River", "A river {{broken [[link flows."),
    )
    (tmp_path / "w-pages-articles.xml.bz2").write_bytes(bz2.compress(dump(*pages)))
    report = CorpusReport()
    passages = list(read_passages(tmp_path / "w-pages-articles.xml.bz2", report=report))
    assert [(each.title, each.text, each.document_id) for each in passages] == [
        ("Bridge", "A bridge crosses.", "1"),
        ("River", "A river {{broken [[link flows.", "6"),
    ]
    assert passages[0].source == "w-pages-articles.xml.bz2"
    assert (report.read, report.kept) == (6, 2)
    assert report.skipped == {"redirect": 1, "disambiguation page": 1, "not an article": 1, "no text": 1}
    assert report.failed == 0


def test_a_dump_that_is_cut_off_gives_what_came_before(tmp_path: Path):
    whole = dump(page(1, "A", "First."), page(2, "B", "Second."))
    (tmp_path / "w.xml").write_bytes(whole[: whole.index(b"Second")])
    report = CorpusReport()
    assert [each.title for each in read_passages(tmp_path / "w.xml", report=report)] == ["A"]
    assert report.skipped == {"damaged dump": 1}


def test_other_xml_is_no_dump(tmp_path: Path):
    (tmp_path / "feed.xml").write_text("<rss><item/></rss>")
    with pytest.raises(CorpusError, match="not a MediaWiki dump"):
        list(read_passages(tmp_path / "feed.xml"))


def test_a_page_that_cannot_be_read_costs_that_page(tmp_path: Path):
    pages = (
        page(1, "One", "First."),
        page(2, "Two", "Bell \x07 inside."),
        page(3, "Three", "Third.").replace("<text", "<unknown>x</unknown><text"),
        page(4, "Four", "Fourth.").replace("2024-01-01T00:00:00Z", ""),
        page(5, "Five", "Fifth.", extra="<contributor><username>a</username><id></id></contributor>"),
        page(6, "", "Nameless."),
        page(7, "Seven", "Seventh.").replace("</page>", ""),
        page(8, "Eight", "Eighth &undefined; entity.").replace("&amp;undefined;", "&undefined;"),
        page(9, "Nine", "Ninth.").encode().replace(b"Ninth", b"Nin\xffth").decode("latin-1"),
        page(10, "Ten", "Tenth."),
    )
    raw = dump(*pages).replace("ÿ".encode(), b"\xff")
    (tmp_path / "w.xml").write_bytes(raw)
    report = CorpusReport()
    titles = [each.title for each in read_passages(tmp_path / "w.xml", report=report)]
    assert titles == ["One", "Three", "Four", "Five", "Ten"]
    assert report.failures == {"broken XML": 4, "no title": 1}
    assert report.examples[0].startswith("w.xml, Two: not readable as XML")


@pytest.mark.parametrize(
    "wikitext",
    [
        "A bridge" + " " * 100_000 + "crosses.",
        "A bridge (" + "\xa0" * 100_000 + ") crosses.",
        "A bridge crosses. " + "(" * 20_000,
    ],
)
def test_time_grows_with_the_length_of_an_article_and_no_faster(wikitext: str):
    # Each took a minute with a pattern that looked back.
    start = time.process_time()
    assert article_text(wikitext).startswith("A bridge")
    assert time.process_time() - start < 10
