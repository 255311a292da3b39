from __future__ import annotations

import pytest
from fakes.run_report import run_report

from masksearch_agent.viewer.sections import (
    cost_section,
    duration,
    generation_section,
    next_steps_section,
    retrieval_section,
)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0.0 s"),
        (48.34, "48.3 s"),
        (60.0, "1 min 00 s"),
        (192.4, "3 min 12 s"),
        (3599.7, "1 h 00 min"),
        (7500.0, "2 h 05 min"),
    ],
)
def test_times_are_told_in_the_units_that_matter(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_stages_show_time_steps_tokens_and_speed() -> None:
    shown = cost_section(run_report())
    for text in ("1 min 00 s", "650", "720,000", "12,000", "30.5 s", "411", "61,000", "2,000"):
        assert f">{text}</td>" in shown
    for text in ("3 min 12 s", "2.13 GB", "7"):
        assert f"<dd>{text}</dd>" in shown


def test_a_stage_without_tokens_has_no_speed() -> None:
    shown = cost_section({"stages": [{"name": "index", "seconds": 0.0}]})
    assert shown.count(">–</td>") == 3


def test_generation_shows_its_yield_and_why_the_rest_was_rejected() -> None:
    shown = generation_section(run_report())
    for text in ("1,812", "188", "91%", "ungrounded (188)"):
        assert f">{text}</td>" in shown
    idle = {"stage": "a", "accepted": 0, "rejected": 0}
    assert ">0%</td>" in generation_section({"generation": [idle]})


def test_retrievers_show_every_metric_of_any_of_them() -> None:
    shown = retrieval_section({"retrieval": {"bm25": {"gold_recall": 0.904}, "dense": {"mrr": 0.5}}})
    assert ">gold recall</th>" in shown
    assert ">0.904</td>" in shown
    assert ">0.500</td>" in shown
    assert shown.count(">–</td>") == 2


def test_commands_in_next_steps_are_code() -> None:
    shown = next_steps_section({"next_steps": ["Run `a <b>` now", "unpaired ` tick"]})
    assert "<li>Run <code>a &lt;b&gt;</code> now</li>" in shown
    assert "<li>unpaired ` tick</li>" in shown
