"""Articles of a Wikipedia dump (`pages-articles.xml.bz2`), one page at a time.

Each page is read as XML of its own, so that a broken one costs itself, and its wikitext by mwparserfromhell. What is no
prose is left out: templates (but for a few that stand for words), tables, references, pictures, categories, and the
lists at the end of an article. Redirects, disambiguation pages and pages that are no articles are skipped, each counted
under its reason.
"""

from __future__ import annotations

import bz2
import gzip
import html
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from masksearch_agent.corpus.placed import Placed
from masksearch_agent.errors import UnreadableDocumentError, needs_extra

__all__ = ("DUMP_SUFFIXES", "article_text", "read_dump", "read_wikitext")

DUMP_SUFFIXES = (".xml", ".xml.bz2", ".xml.gz")

_ARTICLE_NAMESPACE = "0"
_UNREAD_NAMESPACES = ("6", "14")
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
_EMPTY_BRACKETS = re.compile(r" ?[(（][\s,;，；、]*[)）]")
_BRACKET_OPENING = re.compile(r"([(（])[\s,;，；、]+")
_OPENERS: dict[str, Callable[[Path], Any]] = {".bz2": bz2.open, ".gz": gzip.open}
_GAPS = re.compile(r"[ \t\xa0]+")
_CHUNK_BYTES = 1 << 20
_PAGE_START, _PAGE_END = b"<page>", b"</page>"
_TITLE = re.compile(rb"<title>(.{1,500}?)</title>", re.DOTALL)
_NAMESPACE = re.compile(rb"""<namespace key=["'](-?\d+)["'][^>]*>([^<]+)</namespace>""")


def read_dump(path: Path, max_page_bytes: int) -> Iterator[Placed[tuple[str, str, bytes]]]:
    """Yield the pages of a dump (XML, plain or packed by bzip2 or gzip), redirects and other namespaces included.

    A page is its id, its title and what `read_wikitext` reads.

    Raises:
        UnreadableDocumentError: While iterating, where the file is no dump, damaged or cut off.
    """
    try:
        with _OPENERS.get(path.suffix.lower(), partial(open, mode="rb"))(path) as file:
            buffer = file.read(_CHUNK_BYTES)
            if b"<mediawiki" not in buffer:
                raise UnreadableDocumentError("not a dump", f"{path} is XML, but not a MediaWiki dump")
            prefixes, number = _unread_prefixes(buffer), 0
            while buffer:
                # The text of a page has its angle brackets escaped, so what looks like a page's tag is one.
                *pages, rest = buffer.split(_PAGE_END)
                if len(rest) > max_page_bytes:
                    pages, rest = [*pages, rest[:_CHUNK_BYTES]], b""
                for page in pages:
                    for part in page.split(_PAGE_START)[1:]:
                        number += 1
                        is_whole = page.endswith(part) and len(page) <= max_page_bytes
                        yield _name_of(part, number), partial(_read_page, part if is_whole else b"", prefixes)
                chunk = file.read(_CHUNK_BYTES)
                if not chunk and (_PAGE_START in rest or b"</mediawiki>" not in rest):
                    raise EOFError("it ends within a page")
                buffer = rest + chunk if chunk else b""
    except (OSError, EOFError, zlib.error) as failure:
        detail = f"the dump is damaged or cut off, what follows is not read ({failure})"
        raise UnreadableDocumentError("damaged dump", detail) from failure


def _name_of(page: bytes, number: int) -> str:
    title = _TITLE.search(page)
    return html.unescape(title[1].decode(errors="replace")) if title else f"page {number}"


def _read_page(page: bytes, unread_prefixes: tuple[str, ...]) -> tuple[str, str, bytes]:
    if not page:
        raise UnreadableDocumentError("broken XML", "has no end, or is larger than corpus.max_file_bytes")
    try:
        element = ElementTree.fromstring(_PAGE_START + page + _PAGE_END)
    except ElementTree.ParseError as failure:
        raise UnreadableDocumentError("broken XML", f"not readable as XML ({failure})") from failure
    title = (element.findtext("title") or "").strip()
    wikitext = "".join(element.findtext("revision[last()]/text") or "")
    namespace, redirect = (element.findtext("ns") or "0").strip(), element.find("redirect")
    if not title:
        raise UnreadableDocumentError("no title", "the page has no title")
    if namespace != _ARTICLE_NAMESPACE:
        raise UnreadableDocumentError("not an article", f"namespace {namespace}", has_failed=False)
    if redirect is not None or _REDIRECT.match(wikitext):
        target = redirect.get("title") if redirect is not None else "another page"
        raise UnreadableDocumentError("redirect", f"redirects to {target}", has_failed=False)
    if _DISAMBIGUATION_TITLE.search(title) or _DISAMBIGUATION.search(wikitext):
        raise UnreadableDocumentError("disambiguation page", has_failed=False)
    payload = json.dumps({"text": wikitext, "prefixes": unread_prefixes})
    return (element.findtext("id") or "").strip() or title, title, payload.encode()


def _unread_prefixes(head: bytes) -> tuple[str, ...]:
    names = {"file", "image", "category"}
    for key, name in _NAMESPACE.findall(head):
        if key.decode() in _UNREAD_NAMESPACES:
            names.add(html.unescape(name.decode(errors="replace")).lower())
    return tuple(sorted(names))


def read_wikitext(payload: bytes) -> str:
    """Return the prose of an article, of what `read_dump` says of it."""
    wanted = json.loads(payload)
    return article_text(wanted["text"], tuple(wanted["prefixes"]))


def article_text(wikitext: str, unread_prefixes: tuple[str, ...] = ("file", "image", "category")) -> str:
    """Return the prose of an article in paragraphs, without links to namespaces that begin so, in lower case."""
    with needs_extra("corpus"):
        import mwparserfromhell
    code = mwparserfromhell.parse(_GAPS.sub(" ", wikitext), skip_style_tags=False)
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
