"""The pieces that every section of the page is built from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from masksearch_agent.viewer.markup import Markup, join, tag

__all__ = ("decimal_cell", "number_cell", "number_table", "section")


def section(title: str, *content: str, class_name: str | None = None) -> Markup:
    """Return a section with a heading, or nothing where it has no content."""
    body = join(content)
    return tag("section", tag("h2", title), body, class_=class_name) if body else Markup()


def number_table(
    caption: str, heads: Sequence[str], rows: Iterable[Sequence[Markup]], class_name: str | None = None
) -> Markup:
    """Return a table that scrolls within itself where the window is too narrow for it."""
    head = tag("thead", tag("tr", *(tag("th", text, scope="col") for text in heads)))
    body = tag("tbody", *(tag("tr", *cells) for cells in rows))
    table = tag("table", tag("caption", caption), head, body, class_=class_name)
    return tag("div", table, class_="scroll", role="region", aria_label=caption, tabindex="0")


def number_cell(text: str, value: float | None, share: float | None = None) -> Markup:
    """Return a number cell that sorts by `value`, with a bar of `share` of its width."""
    style = None if share is None else f"--mean:{share:.4f}"
    return tag("td", text, class_="number", data_value="" if value is None else value, style=style)


def decimal_cell(value: float | None, digits: int = 3, share: float | None = None) -> Markup:
    """Return a number cell with fixed decimals, or a dash where the value is unknown."""
    return number_cell("–" if value is None else f"{value:.{digits}f}", value, share)
