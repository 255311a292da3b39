"""HTML that is escaped by construction.

Questions, passages and model output are untrusted. Every string that reaches the page goes through `tag`,
which escapes what is not `Markup`; only `tag` and `join` make `Markup`. So no author of a section can forget
to escape, and no passage can bring a tag of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

__all__ = ("Markup", "join", "tag", "svg_file")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str | float | None) -> Markup:
    """Return an HTML or SVG element.

    Args:
        name: Name of the element; of those that HTML leaves unclosed, only `input` is known.
        children: Content, escaped unless it is `Markup`.
        attributes: `_` stands for `-`, but for one at the end (`class_`). None leaves the attribute out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name == "input":
        return Markup(f"<input{written}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def svg_file(style: str, width: float, height: float, *content: str) -> str:
    """Return a picture that is a file of its own, on white: a viewer may show it on any colour."""
    svg = tag(
        "svg",
        tag("style", Markup(style)),
        tag("rect", width="100%", height="100%", fill="#fff"),
        *content,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        role="img",
    )
    return f"{svg}\n"


def join(children: Iterable[str]) -> Markup:
    """Return the children side by side, escaped unless they are `Markup`."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))
