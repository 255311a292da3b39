"""A run's `report.json` as one HTML page that needs nothing else: no server, no network, no other file.

The page is complete without JavaScript; its script adds sorting, hover values and a button that opens every
trajectory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from masksearch_agent.files import replace_text
from masksearch_agent.viewer.curves import build_charts, draw_charts, hover_data
from masksearch_agent.viewer.elements import section
from masksearch_agent.viewer.markup import Markup, join, tag
from masksearch_agent.viewer.page import fill_page
from masksearch_agent.viewer.scores import comparisons_section, headline, headline_intervals, scores_section
from masksearch_agent.viewer.sections import (
    cost_section,
    generation_section,
    next_steps_section,
    retrieval_section,
)
from masksearch_agent.viewer.trajectories import draw_sample

__all__ = ("render_html", "write_report")


def render_html(report: Mapping[str, Any]) -> str:
    """Return the page of a report.

    Args:
        report: What `report.json` holds; every block of it may be absent.
    """
    charts = build_charts(report.get("curves") or ())
    title = str(report.get("title") or "Search agent report")
    # U+2011 keeps `2-hop` on one line, which a browser would break at a plain hyphen.
    body = join(
        (
            tag(
                "header",
                tag("h1", title),
                tag("p", headline(report).replace("-hop", "\u2011hop"), class_="result"),
                tag("p", headline_intervals(report), class_="facts"),
            ),
            scores_section(report),
            comparisons_section(report),
            section("Training", draw_charts(charts)),
            _samples_section(report),
            cost_section(report),
            generation_section(report),
            retrieval_section(report),
            next_steps_section(report),
            _footer(report),
        )
    )
    return fill_page(title, body, {"hover-data": hover_data(charts)})


def write_report(report: Mapping[str, Any], directory: Path) -> None:
    """Write `report.json` and `report.html`; each file appears only when it is complete.

    Args:
        report: What `report.json` is to hold.
        directory: Where to; made if absent.
    """
    directory.mkdir(parents=True, exist_ok=True)
    page = render_html(report)
    replace_text(directory / "report.json", json.dumps(report, ensure_ascii=False, indent=2) + "\n")
    replace_text(directory / "report.html", page)


def _samples_section(report: Mapping[str, Any]) -> Markup:
    samples = report.get("samples") or ()
    return section(
        "Sample trajectories", *(draw_sample(sample, index == 0) for index, sample in enumerate(samples))
    )


def _footer(report: Mapping[str, Any]) -> Markup:
    versions = report.get("versions") or {}
    pairs = " · ".join(f"{package} {version}" for package, version in versions.items())
    return tag("footer", pairs) if pairs else Markup()
