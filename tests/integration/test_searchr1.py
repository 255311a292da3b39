"""Search-R1's files and a retriever server train an agent: no SFT, no index of the trainer's own."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")
pytest.importorskip("tantivy")
pytest.importorskip("pyarrow")

from fakes.command_line import CommandLine
from fakes.index_server import serve_search
from unit.evaluation.test_searchr1 import row, write

from masksearch_agent.agent.bundle import read_bundle_info
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.lab.closed_world import make_world
from masksearch_agent.lab.world_questions import make_questions
from masksearch_agent.retrieval.adapters import open_search
from masksearch_agent.retrieval.index import build_index

SETTINGS = (
    "base_model=tiny", "prompts=compact",
    "agent={answer_form: bare_fills, max_step_tokens: 12, max_sampled_tokens: 24, passages_per_search: 2}",
    "rewards={answer: exact_match, overlong_max_tokens: 24, overlong_cache_tokens: 24}",
    "qa_dapo={max_steps: 1, prompts_per_step: 2, group_size: 2, row_batch_size: 4, dynamic_sampling: false}",
)  # fmt: skip


def test_an_untrained_model_is_trained_and_asked_over_a_server(run: CommandLine, tmp_path: Path) -> None:
    world = make_world(5, 40, 20)
    settings = RetrievalSettings(mode="bm25")
    build_index(world.passages, tmp_path / "index", settings)
    questions = list(islice(make_questions(world, "train", 6, 1, "bridge"), 6))
    rows = [row(task.question, list(task.answers[0]), "nq", number) for number, task in enumerate(questions)]
    write(tmp_path / "train.parquet", [*rows, row("nobody knows?", [])])
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    with serve_search(open_search(tmp_path / "index", settings)) as server:
        trained = run(
            "dapo", "--use", "qa_dapo", "--tasks", "train.parquet", "--index", server.url, "--out", "agent",
            *options, "--json",
        ).json  # fmt: skip
        asked = run(
            "eval", "--agent", "agent", "--data", "train.parquet", "--index", server.url, "--limit", 2, *options,
            "--json",
        ).json  # fmt: skip
    assert (trained["steps"], trained["tokens"] > 0) == (1, True)
    assert asked["train"]["n"] == 2
    info = read_bundle_info(Path("agent"))
    assert info.index == "", "a server is named anew each time"
    assert [stage["stage"] for stage in info.provenance["stages"]] == ["dapo"]
