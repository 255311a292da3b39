"""Pages from templates: HTML that needs nothing else (no server, no network, no other file), and Markdown.

Questions, passages and model output are untrusted: the HTML templates escape every value, and the page's content
security policy forbids the browser to load anything and to run any script but ours, which it knows by their hashes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from masksearch_agent.agent.escaping import restore
from masksearch_agent.errors import needs_extra
from masksearch_agent.reports import wording
from masksearch_agent.reports.conversations import pieces, turns_of

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ("render_html", "render_markdown", "render_sample")

_MARKDOWN = re.compile(r"([\\`*_\[\]<>#|~$])")


def render_html(template: str, scripts: Sequence[str] = ("page.js",), **values: Any) -> str:
    """Return a page of a template, with scripts that run in their order; both are files of `templates/`."""
    codes = [files(__package__).joinpath("templates", name).read_text(encoding="utf-8") for name in scripts]
    page = _environment(True).get_template(template)
    return page.render(codes=codes, script_hashes=" ".join(map(_hash, codes)), **values)


def render_sample(sample: Any) -> str:
    """Return a trajectory as a piece of HTML, to be put into a page later."""
    template = _environment(True).get_template("macros.html")
    return str(template.module.trajectory(sample))  # type: ignore[attr-defined]


def render_markdown(template: str, package: str = "", **values: Any) -> str:
    """Return a Markdown page; texts from outside go through the filter `plain`.

    Args:
        template: File of `templates/`, of this room or of another package that brings its own.
        package: The other package.
    """
    text = _environment(False, package).get_template(template).render(**values)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


@functools.cache
def _environment(is_html: bool, package: str = "") -> Environment:
    with needs_extra("report"):
        from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in (package, __package__) if name]),
        autoescape=is_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        **{name: getattr(wording, name) for name in ("difference", "duration", "label", "score")},
        "plain": _plain,
        "restore": restore,
        # `</script>` or `<!--` in a string would end or swallow the element that holds the JSON.
        "json_data": lambda value: Markup(_json(value).replace("<", r"\u003c")),
        # Our own scripts and pictures, whose texts were escaped when they were made.
        "trusted": Markup,
    }
    environment.globals |= {
        **{"turns_of": turns_of, "pieces": pieces, "row_notes": wording.ROW_NOTES},
        **{"question_count": wording.question_count, "best_recalls": wording.best_recalls},
    }
    return environment


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _plain(text: str) -> str:
    """Return a text from outside, as its author wrote it, so that Markdown shows it and reads nothing into it."""
    return _MARKDOWN.sub(r"\\\1", " ".join(restore(text).split()))


def _hash(code: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
