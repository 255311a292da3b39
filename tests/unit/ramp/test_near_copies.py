from __future__ import annotations

import random

from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.ramp.near_copies import NearCopies
from masksearch_agent.ramp.spans import Span
from masksearch_agent.ramp.tasks import RampReport, build_ramp_tasks
from masksearch_agent.records import Passage

WORDS = [f"word{number}" for number in range(5000)]


def make_text(seed: int, length: int = 80) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=length))


def test_a_text_with_a_changed_end_is_a_copy_and_others_are_not():
    known = NearCopies()
    copies = 0
    for seed in range(50):
        text = make_text(seed)
        assert not known.holds_or_adds(text)
        assert known.holds_or_adds(text.upper())
        copies += known.holds_or_adds(f"{text} with an end of its own")
    assert copies >= 45
    half_new = [f"{make_text(seed, 40)} {make_text(seed + 1000, 40)}" for seed in range(50)]
    assert sum(known.holds_or_adds(text) for text in half_new) <= 2


def test_chinese_copies_are_found():
    known = NearCopies()
    text = (
        "玛丽亚大学位于海港城，由李明于一九二三年创立，共有三个学院和两座图书馆，是该国历史最悠久的大学之一。"
    )
    assert not known.holds_or_adds(text)
    assert known.holds_or_adds(text.replace("。", "！"))
    assert not known.holds_or_adds("雨停了，孩子们跑到街上，追着一只红色的风筝，一直跑到了河边的老磨坊前面。")


def test_only_the_first_of_near_copies_gives_a_task_and_the_others_are_counted():
    text = f"In 1923 {make_text(0)}."
    passages = [Passage("a", "", f"Long ago. {text}"), Passage("b", "", f"Long ago! {text}")]
    found = [(each, (Span(13, 17, "1923", "DATE"),)) for each in passages]
    report = RampReport()
    tasks = list(build_ramp_tasks(found, None, RampSettings(), report=report))
    assert [task.source_passage_id for task in tasks] == ["a"]
    assert report.drops == {"near_copy": 1}
    kept_both = build_ramp_tasks(found, None, RampSettings(drop_near_copies=False))
    assert len(list(kept_both)) == 2
