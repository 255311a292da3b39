"""An HTML page that needs nothing else: no server, no network, no other file.

Its content security policy forbids the browser to load anything and to run any script but ours, which it knows by
their hashes: even markup that found its way into the page could not act.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import Any

from masksearch_agent.viewer.markup import Markup, join, tag

__all__ = ("fill_page",)


def fill_page(
    title: str, body: Markup, data: Mapping[str, Any], scripts: Sequence[str] = ("report.js",)
) -> str:
    """Return a page.

    Args:
        title: What the window is called.
        body: The page's content, complete without JavaScript.
        data: What the scripts read: JSON by the id of its element.
        scripts: Files of this package, in the order in which they run.
    """
    codes = [_read(name) for name in scripts]
    elements = [_json_element(name, value) for name, value in data.items()]
    return Template(_read("report.html")).substitute(
        title=join((title,)),
        body=body,
        data="\n".join(elements),
        scripts="\n".join(f"<script>{code}</script>" for code in codes),
        script_hashes=" ".join(map(_hash, codes)),
    )


def _json_element(name: str, value: Any) -> Markup:
    # `</script>` or `<!--` in a string would end or swallow the element that holds the JSON.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":")).replace("<", r"\u003c")
    return tag("script", Markup(text), type="application/json", id=name)


def _hash(code: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
