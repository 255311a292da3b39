"""Markdown with front matter to plain text in sections, by way of HTML."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import Any

from masksearch_agent.corpus.encodings import decode_text
from masksearch_agent.corpus.pages import Document, sections_of
from masksearch_agent.text.values import as_text

__all__ = ("read_markdown",)

_NESTING = 40
"""Lists and quotations in one another that Markdown is read with; brackets take time in proportion to it."""
_LINE_END = re.compile("\r\n?")
_YAML_EDGE = re.compile(r"^(?:-{3,}|\.{3})[ \t]*$", re.MULTILINE)
_TOML_EDGE = re.compile(r"^\+{3}[ \t]*$", re.MULTILINE)
_TITLE_LINE = re.compile(r"^title:[ \t]*(\S.*)$", re.MULTILINE)
_HEADING_ID = re.compile(r"\s*\{:?\s*[#.][^{}]*\}$")
"""What a heading is called in links, and its classes: `## Usage {#usage}`."""
_TAG = re.compile(r"<(/?)([A-Za-z][\w.:-]*)")
_RAW = "title|textarea|style|xmp|iframe|noembed|noframes|script|plaintext"
"""What stands behind one of these tags is no text, up to its end or the page's (GitHub Flavored Markdown 6.11)."""
_RAW_NAME = re.compile(_RAW)
_RAW_BLOCK = re.compile(rf"\s*<(?:({_RAW})\b|!--)", re.IGNORECASE)
_ENDLESS = re.compile(
    "area|base|br|col|embed|hr|img|input|link|meta|source|track|wbr|p|li|d[dt]|t[dhr]|option"
)


def read_markdown(raw: bytes, encoding: str) -> Document:
    """Read a Markdown file; its title is what its front matter says, where that says one."""
    from markdown_it import MarkdownIt

    title, text = _split_front_matter(decode_text(raw, encoding))
    markdown = MarkdownIt("commonmark", {"maxNesting": _NESTING}).enable(["table", "strikethrough"])
    tokens = markdown.parse(text)
    for place, token in enumerate(tokens):
        line = token.children or []
        _spell_out(line)
        if line and line[-1].type == "text" and tokens[place - 1].type == "heading_open":
            line[-1].content = _HEADING_ID.sub("", line[-1].content)
        opened = _RAW_BLOCK.match(token.content) if token.type == "html_block" else None
        if opened and (f"</{opened[1]}" if opened[1] else "-->").lower() not in token.content.lower():
            token.type = "code_block"  # It hides all that follows, and is no part of a page.
    # What is nested deeper is left out by the parser without a word.
    if any(token.level >= _NESTING - 1 for token in tokens):
        return Document(title, [((), text)])
    page = markdown.renderer.render(tokens, markdown.options, {})
    return Document(title, sections_of(page, is_web_page=False))


def _spell_out(line: Sequence[Any]) -> None:
    """Make text of what looks like a tag and is none: a placeholder, `list<int>`, `the <script> element`."""
    ended: set[str] = set()
    for part in reversed(line):
        tag = _TAG.match(part.content) if part.type == "html_inline" else None
        if tag is None:
            continue
        name = tag[2].lower()
        if _RAW_NAME.fullmatch(name):
            part.type = "text"
        elif tag[1]:
            ended.add(name)
        elif name not in ended and not _ENDLESS.fullmatch(name) and not re.search(r"=|/>", part.content):
            part.type = "text"


def _split_front_matter(text: str) -> tuple[str, str]:
    """Return the title that the front matter of a text says, and the text below it."""
    from frontmatter.default_handlers import JSONHandler, YAMLHandler
    from yaml import YAMLError

    text = _LINE_END.sub("\n", text).strip()
    toml = YAMLHandler(_TOML_EDGE)
    handlers = (YAMLHandler(_YAML_EDGE), JSONHandler(), toml)
    handler = next((each for each in handlers if each.detect(text)), None)
    try:
        front, below = handler.split(text) if handler is not None else ("", text)
    except ValueError:
        return "", text  # It has no end.
    try:
        said: Any = tomllib.loads(front) if handler is toml else handler.load(front) if handler else {}
    except (YAMLError, ValueError):
        # `title: Bridges: a history`, which people write, or a date that no calendar has.
        said = {"title": line[1].strip(" \"'")} if (line := _TITLE_LINE.search(front)) else {}
    if not said or not isinstance(said, dict):
        return "", text  # Between two lines of hyphens stands something else.
    title = said.get("title")
    return "" if isinstance(title, list | dict | set) else as_text(title), below.strip()
