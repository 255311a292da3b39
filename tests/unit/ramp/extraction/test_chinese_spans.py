"""Chinese text from reading to scoring."""

from __future__ import annotations

from pathlib import Path

import pytest

from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.ramp.extraction.chinese_spans import find_chinese_facts
from masksearch_agent.ramp.extraction.rules import passage_flaw
from masksearch_agent.ramp.spans import Span
from masksearch_agent.ramp.tasks import build_ramp_tasks
from masksearch_agent.records import Passage
from masksearch_agent.retrieval.index import build_index, open_index
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.retrieval.search import Search
from masksearch_agent.text.matching import answer_recall

DOCUMENTS = {
    "青山大学": "青山大学位于海宁市，由李文华创立于1923年。学校最初只有两个学院，如今是当地最大的学校。",
    "李文华": "李文华是著名的教育家。他在1923年创立了青山大学，并写了《山间日记》一书。",
    "海宁": "海宁市在东海之滨，青山大学是这里最有名的学校。",
}


def spans_of(text: str) -> tuple[Span, ...]:
    return tuple(Span(*found) for found in find_chinese_facts(text))


def test_facts_are_found_where_their_borders_can_be_told():
    text = "他毕业于青山大学，1994年3月5日出版《山间日记》，售出3.5万本，由王明翻译，后迁往海宁市，加入了Old Town公司。"
    assert [(span.label, span.text) for span in spans_of(text)] == [
        ("ORGANISATION", "青山大学"),
        ("DATE", "1994年3月5日"),
        ("WORK", "山间日记"),
        ("QUANTITY", "3.5万本"),
        ("PERSON", "王明"),
        ("PLACE", "海宁市"),
        ("NAME", "Old Town"),
    ]
    assert all(text[span.start : span.end] == span.text for span in spans_of(text))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("始于20世纪90年代，在上世纪80年代", ["20世纪90年代", "80年代"]),
        ("公元前221年，一九四九年，12000年前", ["公元前221年", "一九四九年", "12000年"]),
        ("历时3个月，每次2个小时，3年级学生", ["3个月", "2个小时", "3年级"]),
        ("他用iPhone和macOS，在eBay买了Windows10，得了COVID-19", []),
        ("作者Renée Müller住在Old Town", ["Renée Müller", "Old Town"]),
        ("由于缺乏设计经验，由他们建造，由该公司设计，自由人设计，由一名工人发现", []),
        ("由何明设计", ["何明"]),
        ("位于苏州市，位于太行山区，来自中国市场", ["苏州市", "太行山区", "中国"]),
        ("来自其他国家，加入青山大学生联盟", []),
        ("就读于青山大学生物系，位于太湖流域的苏州市", ["青山大学"]),
    ],
)
def test_no_fact_is_cut_out_of_a_word_or_a_number_and_no_pronoun_is_one(text: str, found: list[str]):
    assert [span.text for span in spans_of(text)] == found


def test_chinese_passages_are_long_enough_and_no_lists():
    passage = Passage("p", "青山大学", DOCUMENTS["青山大学"])
    assert passage_flaw(passage, RampSettings()) == ""
    assert passage_flaw(Passage("p", "", "他走了。"), RampSettings()) == "short_passage"


def test_the_leak_guard_withholds_a_chinese_near_copy():
    guard = LeakGuard(DOCUMENTS["青山大学"])
    assert guard.withholds(Passage("copy", "", DOCUMENTS["青山大学"].replace("当地", "本地")))
    assert not guard.withholds(Passage("other", "", DOCUMENTS["李文华"]))


def test_a_chinese_document_becomes_a_task_that_is_answered_and_scored(tmp_path: Path):
    (tmp_path / "documents").mkdir()
    for title, text in DOCUMENTS.items():
        (tmp_path / "documents" / f"{title}.md").write_text(f"# {title}\n\n{text}\n", encoding="utf-8")
    passages = list(read_passages(tmp_path / "documents", CorpusSettings(max_words=100)))
    build_index(passages, tmp_path / "index", RetrievalSettings(mode="bm25"))
    search = Search(open_index(tmp_path / "index"))
    source = next(each for each in passages if each.title == "青山大学")
    settings = RampSettings(mask_count_weights=(0, 0, 1, 0))
    (task,) = build_ramp_tasks([(source, spans_of(source.text))], search, settings)
    assert (
        task.question
        == "青山大学: 青山大学位于[mask]，由[mask]创立于[mask]。学校最初只有两个学院，如今是当地最大的学校。"
    )
    assert task.answers == (("海宁市",), ("李文华",), ("1923年",))
    assert task.hops[1].need == 'mask 2, in "山大学位于…，由___创立于…。学校最"'
    assert answer_recall(task, "海宁市\n李文华\n1923年") == 1.0
    assert answer_recall(task, source.text) == 1.0
    assert answer_recall(task, "海宁市\n李文\n不知道") == (1 + 2 / 3) / 3
