"""What a run took and made: time and memory, generated trajectories, retrieval, and what to do next.

Every section takes the whole report and is empty where its block is absent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from masksearch_agent.viewer.elements import decimal_cell, number_cell, number_table, section
from masksearch_agent.viewer.markup import Markup, tag
from masksearch_agent.viewer.tables import label

__all__ = ("cost_section", "duration", "generation_section", "next_steps_section", "retrieval_section")


def duration(seconds: float) -> str:
    """Return a time in the two units that matter: `48.3 s`, `3 min 12 s`, `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    return f"{minutes} min {rest_s:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def cost_section(report: Mapping[str, Any]) -> Markup:
    """Return what the run cost, in all and stage by stage."""
    stages = report.get("stages") or ()
    total_s = sum(stage["seconds"] for stage in stages) or 1.0
    rows = []
    for stage in stages:
        seconds, tokens, steps = stage["seconds"], stage.get("tokens"), stage.get("steps")
        speed = round(tokens / seconds) if tokens and seconds else None
        rows.append(
            [
                tag("th", label(stage["name"]), scope="row"),
                number_cell(duration(seconds), seconds, seconds / total_s),
                *(
                    number_cell("–" if value is None else f"{value:,}", value)
                    for value in (steps, tokens, speed)
                ),
            ]
        )
    heads = ["stage", "time", "steps", "tokens", "tokens/s"]
    figures = _figures(report)
    return section(
        "Time and memory",
        tag("dl", *figures, class_="figures") if figures else Markup(),
        number_table("Stages in the order in which they ran.", heads, rows, "cost sortable")
        if rows
        else Markup(),
    )


def generation_section(report: Mapping[str, Any]) -> Markup:
    """Return the yield of trajectory generation, stage by stage."""
    rows = []
    for entry in report.get("generation") or ():
        accepted, rejected = entry["accepted"], entry["rejected"]
        share = accepted / (accepted + rejected) if accepted + rejected else 0.0
        reasons = (f"{label(reason)} ({count:,})" for reason, count in (entry.get("reasons") or {}).items())
        rows.append(
            [
                tag("th", label(entry["stage"]), scope="row"),
                number_cell(f"{accepted:,}", accepted),
                number_cell(f"{rejected:,}", rejected),
                number_cell(f"{share:.0%}", share, share),
                tag("td", ", ".join(reasons) or "–"),
            ]
        )
    heads = ["stage", "accepted", "rejected", "yield", "why rejected"]
    caption = "Trajectories that the judge accepted and rejected."
    return section("Generation", number_table(caption, heads, rows) if rows else Markup())


def retrieval_section(report: Mapping[str, Any]) -> Markup:
    """Return the quality of each retriever on its own."""
    retrieval = report.get("retrieval") or {}
    metrics = list(dict.fromkeys(metric for scores in retrieval.values() for metric in scores))
    rows = [
        [
            tag("th", name, scope="row"),
            *(decimal_cell(scores.get(metric), share=scores.get(metric)) for metric in metrics),
        ]
        for name, scores in retrieval.items()
    ]
    heads = ["retriever", *(label(metric) for metric in metrics)]
    caption = "What each retriever finds on its own."
    return section("Retrieval", number_table(caption, heads, rows, "narrow") if rows else Markup())


def next_steps_section(report: Mapping[str, Any]) -> Markup:
    """Return what to do next; text within backticks is set as code."""
    items = []
    for step in report.get("next_steps") or ():
        pieces = re.split(r"`([^`]+)`", step)
        items.append(
            tag("li", *(tag("code", piece) if index % 2 else piece for index, piece in enumerate(pieces)))
        )
    return section("Next steps", tag("ul", *items) if items else Markup())


def _figures(report: Mapping[str, Any]) -> list[Markup]:
    seconds, memory_gb, seed = (report.get(key) for key in ("wall_seconds", "peak_memory_gb", "seed"))
    figures = {
        "wall time": None if seconds is None else duration(seconds),
        "peak memory": None if memory_gb is None else f"{memory_gb:.2f} GB",
        "seed": None if seed is None else str(seed),
    }
    return [tag("div", tag("dt", name), tag("dd", value)) for name, value in figures.items() if value]
