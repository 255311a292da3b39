"""Articles of a Wikipedia dump (`pages-articles.xml.bz2`), one page at a time.

mwxml reads the dump and mwparserfromhell the wikitext. What is not prose is left out: templates (but for a
few that stand for words), tables, references, pictures, categories, and the lists at the end of an article.
Redirects, disambiguation pages and pages that are no articles are skipped, each counted under its reason.
"""

from __future__ import annotations

import bz2
import gzip
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from masksearch_agent.errors import UnreadableDocumentError, needs_extra

__all__ = ("DUMP_SUFFIXES", "WikipediaPage", "article_text", "read_dump")

DUMP_SUFFIXES = (".xml", ".xml.bz2", ".xml.gz")

WikipediaPage = tuple[str, str, Callable[[], str]]
"""Id, title, and a function that parses the text or raises `UnreadableDocumentError`."""

_ARTICLE_NAMESPACE = 0
_UNREAD_NAMESPACES = (6, 14)
"""Links to these (File, Category) are pictures and filing, not words."""
_UNREAD_TAGS = {
    *("table", "ref", "references", "gallery", "math", "chem", "score", "timeline"),
    *("syntaxhighlight", "source", "imagemap", "hiero", "graph"),
}
_TEXT_TEMPLATES = {"lang": "2", "nowrap": "1", "nobr": "1", "small": "1", "transl": "2", "convert": "1"}
"""Templates that stand for words, and which of their parameters does; any other one is left out."""
_DISAMBIGUATION = re.compile(
    r"\{\{\s*(?:disambig\w*|dab|hndis|geodis|set index article|消歧義?|消歧义)[^{}]*\}\}|__DISAMBIG__",
    re.IGNORECASE,
)
_DISAMBIGUATION_TITLE = re.compile(r"[（(](?:disambiguation|消歧[義义])[）)]$")
_REDIRECT = re.compile(r"\s*#(?:redirect|重定向)", re.IGNORECASE)
_CLOSING_HEADINGS = {
    *("references", "notes", "footnotes", "citations", "sources", "bibliography", "works cited"),
    *("further reading", "external links", "see also"),
    *("参考文献", "參考文獻", "参考资料", "參考資料", "外部链接", "外部連結"),
    *("参见", "參見", "注释", "註釋", "延伸阅读", "延伸閱讀"),
}
_MAGIC_WORD = re.compile(r"__[A-Z]+__|-\{|\}-")
_INTERWIKI = re.compile(r":?[a-z][a-z-]{1,11}:")
_EMPTY_BRACKETS = re.compile(r"\s*[(（][\s,;，；、]*[)）]")
_BRACKET_OPENING = re.compile(r"([(（])[\s,;，；、]+")
_OPENERS: dict[str, Callable[[Path], Any]] = {".bz2": bz2.open, ".gz": gzip.open}
_GAPS = re.compile(r"[ \t\xa0]+")


def read_dump(path: Path) -> Iterator[WikipediaPage]:
    """Yield the pages of a dump (XML, plain or packed by bzip2 or gzip), redirects and other namespaces included.

    Raises:
        MissingExtraError: If mwxml or mwparserfromhell is not installed.
        UnreadableDocumentError: While iterating, where the file is damaged or cut off.
    """
    mwxml, element_iterator, parser = _import_parsers()
    with _OPENERS.get(path.suffix, partial(open, mode="rb"))(path) as file:
        try:
            root = element_iterator.from_file(file)
            if root.tag != "mediawiki":
                raise UnreadableDocumentError("not a dump", f"{path} is XML, but not a MediaWiki dump")
            dump = mwxml.Dump.from_element(root)
            prefixes = _unread_prefixes(dump.site_info)
            for page in dump.pages:
                wikitext = ""
                for revision in page:
                    wikitext = revision.text or ""
                yield str(page.id), page.title, partial(_page_text, page, wikitext, prefixes, parser)
                # mwxml empties the pages it has read, but their husks stay below the root.
                del root.element[:]
        except (ParseError, mwxml.errors.MalformedXML, OSError, EOFError) as failure:
            detail = f"the dump is damaged or cut off, what follows is not read ({failure})"
            raise UnreadableDocumentError("damaged dump", detail) from failure


def article_text(wikitext: str, unread_prefixes: tuple[str, ...] = ("file", "image", "category")) -> str:
    """Return the prose of an article in paragraphs, without links to namespaces that begin so, in lower case."""
    _, _, parser = _import_parsers()
    code = parser.parse(wikitext, skip_style_tags=False)
    for tag in code.filter_tags(matches=lambda tag: str(tag.tag).strip().lower() in _UNREAD_TAGS):
        _replace(code, tag, "")
    for link in code.filter_wikilinks():
        target = str(link.title).strip()
        prefix = target.partition(":")[0].strip().lower()
        if ":" in target and (prefix in unread_prefixes or _INTERWIKI.match(target)):
            _replace(code, link, "")
    for template in code.filter_templates():
        name = str(template.name).strip().lower()
        if name in _TEXT_TEMPLATES and template.has(_TEXT_TEMPLATES[name]):
            words = str(template.get(_TEXT_TEMPLATES[name]).value)
            if name == "convert" and template.has("2"):
                words = f"{words} {template.get('2').value}"
            _replace(code, template, words)
    return "\n\n".join(filter(None, map(_clean, _prose_sections(code))))


def _prose_sections(code: Any) -> Iterator[str]:
    skipped_level = 0
    for section in code.get_sections(flat=True, include_lead=True):
        headings = section.filter_headings(recursive=False)
        level = headings[0].level if headings else 0
        if skipped_level and level > skipped_level:
            continue
        title = headings[0].title.strip_code().strip().lower() if headings else ""
        skipped_level = level if title in _CLOSING_HEADINGS else 0
        if not skipped_level:
            for heading in headings:
                section.remove(heading)
            yield section.strip_code()


def _clean(text: str) -> str:
    text = _EMPTY_BRACKETS.sub("", _BRACKET_OPENING.sub(r"\1", _MAGIC_WORD.sub("", text)))
    lines = (_GAPS.sub(" ", line).strip() for line in text.splitlines())
    return "\n\n".join(filter(None, lines))


def _replace(code: Any, node: Any, words: str) -> None:
    with suppress(ValueError):  # It may have stood inside a node that was taken out before.
        code.replace(node, words)


def _page_text(page: Any, wikitext: str, unread_prefixes: tuple[str, ...], parser: Any) -> str:
    if page.namespace != _ARTICLE_NAMESPACE:
        raise UnreadableDocumentError("not an article", f"namespace {page.namespace}", has_failed=False)
    if page.redirect or _REDIRECT.match(wikitext):
        raise UnreadableDocumentError(
            "redirect", f"redirects to {page.redirect or 'another page'}", has_failed=False
        )
    if _DISAMBIGUATION_TITLE.search(page.title) or _DISAMBIGUATION.search(wikitext):
        raise UnreadableDocumentError("disambiguation page", has_failed=False)
    try:
        return article_text(wikitext, unread_prefixes)
    except (parser.parser.ParserError, RecursionError) as failure:
        raise UnreadableDocumentError("broken wikitext", f"cannot parse it ({failure})") from failure


def _unread_prefixes(site: Any) -> tuple[str, ...]:
    names = {"file", "image", "category"}
    names |= {str(each.name).lower() for each in site.namespaces or () if each.id in _UNREAD_NAMESPACES}
    return tuple(sorted(names))


def _import_parsers() -> tuple[Any, Any, Any]:
    with needs_extra("corpus"):
        import mwxml  # isort: skip - named first where both are missing
        import mwparserfromhell
        from mwxml.element_iterator import ElementIterator
    return mwxml, ElementIterator, mwparserfromhell
