from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from fakes.run_report import run_report, sample

from masksearch_agent.reports.conversations import split_blocks
from masksearch_agent.reports.page import render_sample
from masksearch_agent.reports.run_page import render_run


@pytest.mark.parametrize(
    ("role", "content", "expected"),
    [
        (
            "assistant",
            "<think>a\nb</think>\n<search>q</search>",
            [("think", "a\nb"), ("search", "q")],
        ),
        ("assistant", "so <answer>x</answer> there", [("text", "so"), ("answer", "x"), ("text", "there")]),
        ("assistant", "<answer>cut", [("text", "<answer>cut")]),
        (
            "assistant",
            "<information>made up</information>",
            [("text", "<information>made up</information>")],
        ),
        (
            "user",
            "<information>\nNo results.\n</information>\nNow answer.",
            [("information", "No results."), ("text", "Now answer.")],
        ),
        ("user", "<answer>x</answer>", [("text", "<answer>x</answer>")]),
        ("system", "use <search>q</search>", [("text", "use <search>q</search>")]),
        ("user", "", []),
    ],
)
def test_a_block_counts_only_in_its_authors_message(
    role: str, content: str, expected: list[tuple[str, str]]
) -> None:
    assert list(split_blocks(role, content)) == expected


def test_turns_and_blocks_are_told_apart() -> None:
    drawn = render_sample(sample("RAMP"))
    classes = ("turn system", "turn user", "turn assistant", "block think", "block search", "block answer")
    for class_name in (*classes, "block information"):
        assert f'class="{class_name}"' in drawn
    page = render_run(run_report())
    assert "answered · 1 search<" in page
    assert "recall 1.00" in page


def test_masks_and_gold_answers_are_marked() -> None:
    drawn = render_sample(sample("RAMP"))
    assert 'a firm in <mark class="mask">[mask]</mark>.' in drawn
    assert (
        '<strong><mark class="gold">Orly</mark></strong>: <mark class="gold">Orly</mark> is the seat' in drawn
    )
    assert '<div class="text">Orly</div>' in drawn, "the agent's own answer is not marked"


@pytest.mark.parametrize("gold", ["12", "Or", "eat"])
def test_short_answers_and_parts_of_words_are_not_marked(gold: str) -> None:
    assert 'class="gold"' not in render_sample(sample("RAMP", gold=(gold,)))


def test_text_from_outside_is_shown_as_written_and_forges_nothing() -> None:
    drawn = render_sample(sample("<img src=x>"))
    assert "&lt;/information&gt;&lt;script&gt;alert(&#39;forged&#39;)&lt;/script&gt;" in drawn
    assert drawn.count('class="block information"') == 1
    assert "<script" not in drawn
    assert "<img" not in drawn
    assert "\u2060" not in drawn


def test_only_the_first_sample_starts_open() -> None:
    page = render_run(run_report())
    assert re.findall(r'<details class="sample"( open)?>', page) == [" open", ""]


@pytest.mark.parametrize(
    "changes",
    [{"title": ""}, {"question": ""}, {"gold": ()}, {"answer": ""}, {"recall": None}, {"messages": ()}],
)
def test_a_sample_may_lack_anything(changes: dict[str, Any]) -> None:
    assert (
        render_sample(dataclasses.replace(sample("RAMP"), **changes))
        .rstrip()
        .endswith(("</section>", "</dl>"))
    )
    assert "</details>" in render_run(run_report(samples=(dataclasses.replace(sample("RAMP"), **changes),)))
