from __future__ import annotations

from pathlib import Path

import pytest
from fakes.evaluation_results import result, write_results
from fakes.run_report import summary

from masksearch_agent.agent.bundle import open_bundle_search, read_bundle_info
from masksearch_agent.agent.prompts import COMPACT_PROMPTS, FULL_PROMPTS
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.records import Passage
from masksearch_agent.retrieval.index import build_index
from masksearch_agent.stages.base import make_base_bundle
from masksearch_agent.stages.choice import Candidate, Choice, choose
from masksearch_agent.stages.graph import StageGraph
from masksearch_agent.stages.stage import AgentFolder, Results


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ({"start": (0.3, 0.2), "sft": (0.5, 0.1), "dapo": (0.4, 0.3)}, "sft"),
        ({"start": (0.5, 0.2), "sft": (0.4, 0.4), "dapo": (0.1, 0.1)}, "start"),
        ({"start": (0.5, 0.2), "sft": (0.5, 0.3), "dapo": (0.5, 0.3)}, "sft"),
        ({"start": (0.5, 0.2), "sft": (0.5, 0.2)}, "start"),
    ],
)
def test_the_highest_recall_is_chosen_and_of_equals_the_start(
    scores: dict[str, tuple[float, float]], chosen: str
) -> None:
    summaries = {name: summary(recall, 0, 1, 10, em=em) for name, (recall, em) in scores.items()}
    assert choose(summaries) == chosen


@pytest.mark.parametrize(("trained", "chosen"), [(1.0, "sft"), (0.0, "start")])
def test_the_best_is_copied_to_where_it_is_served_from_and_says_why(
    tmp_path: Path, trained: float, chosen: str
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("tantivy")
    build_index(
        [Passage("p", "Quay", "Ann Bo built the quay.")], tmp_path / "index", RetrievalSettings(mode="bm25")
    )
    candidates = {}
    for name, recall in (("start", 0.5), ("sft", trained)):
        folder = tmp_path / "made" / name
        make_base_bundle("tiny", name, COMPACT_PROMPTS, AgentSettings(), folder, "../../index")
        file = write_results(folder, "validation", *(result(task, recall) for task in ("Quay", "Weir")))
        prompts = FULL_PROMPTS if name == "start" else None
        candidates[name] = Candidate(AgentFolder(str(folder)), Results(str(file)), prompts)
    stage = Choice(name="agent", candidates=candidates, settings=EvaluationSettings(bootstrap_samples=100))
    folder = StageGraph(tmp_path / "run").make(stage.trained)

    info = read_bundle_info(folder)
    assert info.model_version.startswith(f"{chosen}/base#")
    assert info.provenance["base_model"] == "tiny"
    assert info.prompts == (FULL_PROMPTS if chosen == "start" else COMPACT_PROMPTS)
    choice = info.provenance["choice"]
    assert choice["chosen"] == chosen
    assert {name: score["recall"] for name, score in choice["scores"].items()} == {
        "start": 0.5,
        "sft": trained,
    }
    assert ("no stage did better than start" in choice["why"]) == (chosen == "start")
    [[found]] = open_bundle_search(folder).search(["Who built the quay?"], 1)
    assert found.passage.id == "p"
