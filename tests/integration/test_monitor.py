"""A run that goes wrong, examined through the real search graph: it stops, says why, and goes back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from fakes.overlap_backend import OverlapBackend  # noqa: E402
from fakes.passages import make_passages  # noqa: E402
from fakes.tiny_models import make_test_tokenizer  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from masksearch_agent.agent.bundle import BundleInfo, save_bundle  # noqa: E402
from masksearch_agent.agent.prompts import COMPACT_PROMPTS  # noqa: E402
from masksearch_agent.agent.protocol import PROTOCOL_VERSION, render_information  # noqa: E402
from masksearch_agent.agent.runnable import MaskSearchAgent  # noqa: E402
from masksearch_agent.config.agent import AgentSettings  # noqa: E402
from masksearch_agent.config.rewards import RewardSettings  # noqa: E402
from masksearch_agent.config.serving import RolloutEngineSettings, ServingSettings  # noqa: E402
from masksearch_agent.config.trainers import (  # noqa: E402
    DAPOSettings,
    MonitorSettings,
    OptimizerSettings,
    SFTSettings,
)
from masksearch_agent.lab.tiny import make_tiny_model  # noqa: E402
from masksearch_agent.records import Message, SearchTask, Trajectory, Turn  # noqa: E402
from masksearch_agent.retrieval.search import Search  # noqa: E402
from masksearch_agent.stages.dapo import RolloutSettings, run_dapo  # noqa: E402
from masksearch_agent.stages.sft import run_sft  # noqa: E402
from masksearch_agent.stages.training import ExamTasks  # noqa: E402
from masksearch_agent.trainers.callbacks import read_metrics  # noqa: E402
from masksearch_agent.trainers.exam import Exam  # noqa: E402

NAMES = ("Ada Fenwick", "Bram Holt", "Clara Voss", "Port Aldin")
PASSAGES = make_passages(*(f"{name} is the mayor." for name in NAMES))
TASKS = [SearchTask(name, "qa", f"Who leads {name}?", ((name,),)) for name in NAMES]
EXAM = ExamTasks(TASKS, Search(OverlapBackend(PASSAGES)))
LIMITS = AgentSettings(max_searches=1, passages_per_search=1, max_repairs=1, max_step_tokens=40)
MUON = OptimizerSettings(
    name="muon", learning_rate=3e-3, muon_learning_rate=0.02, schedule="constant", warmup_ratio=0
)
SABOTAGED = MUON.model_copy(update={"learning_rate": 0.3, "muon_learning_rate": 2.0})
"""A hundred times too fast."""
WATCHED = MonitorSettings(every_steps=2, patience=2)


def trajectory(name: str, passage: Any) -> Trajectory:
    opening = (Message("system", COMPACT_PROMPTS.question_system), Message("user", f"Who leads {name}?"))
    shown = (Message("user", render_information([passage])),)
    search = Turn("0", None, "policy", opening, f"<think> I need it.</think><search> {name} mayor</search>")
    answer = Turn("1", "0", "policy", shown, f"<think> Here.</think><answer> {name}</answer>")
    return Trajectory(name, name, (search, answer), name, "answered", producer="hindsight")


TRAJECTORIES = [trajectory(name, passage) for name, passage in zip(NAMES, PASSAGES, strict=True)]


def exams_of(folder: Path) -> list[dict[str, float]]:
    return [entry for entry in read_metrics(folder / "metrics.jsonl") if "exam/recall" in entry]


def weights_of(folder: Path) -> dict[str, Any]:
    return dict(load_file(folder / "model.safetensors"))


def assert_same_weights(folders: Sequence[Path]) -> None:
    one, other = map(weights_of, folders)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an agent that learned, under a monitor, to answer the questions of the exam."""
    folder = tmp_path_factory.mktemp("taught")
    tokenizer = make_test_tokenizer()
    torch.manual_seed(0)
    model = make_tiny_model(tokenizer, hidden_size=64, layers=2, heads=2, max_positions=512)
    info = BundleInfo(
        protocol_version=PROTOCOL_VERSION, prompts=COMPACT_PROMPTS, agent=LIMITS, model_version="tiny/base", index="",
        search_mode=None, provenance={},
    )  # fmt: skip
    save_bundle(model, tokenizer, info, folder / "base")
    settings = SFTSettings(
        batch_size=4, max_steps=20, optimizer=MUON, monitor=MonitorSettings(every_steps=10)
    )
    spent = run_sft(folder / "base", TRAJECTORIES, settings, folder / "sft", "sft", exam=EXAM)
    assert spent.notes == ()
    assert spent.steps == 20
    assert spent.exam_seconds > 0
    return folder / "sft"


def test_an_exam_says_what_a_run_learned(taught: Path) -> None:
    before, _, after = exams_of(taught)
    assert [entry["step"] for entry in exams_of(taught)] == [0, 10, 20]
    assert (before["exam/recall"], before["exam/well_formed"], before["exam/answer_tokens"]) == (
        0.0,
        0.0,
        0.0,
    )
    assert (after["exam/recall"], after["exam/em"], after["exam/well_formed"]) == (1.0, 1.0, 1.0)
    # Two steps of 15 tokens, and two words of an answer.
    assert (after["exam/sampled_tokens"], after["exam/answer_tokens"]) == (30.0, 2.0)
    assert before["exam/answer_logprob"] < -3 < -0.5 < after["exam/answer_logprob"] < 0
    assert after["exam/entropy"] < before["exam/entropy"]


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_sabotaged_run_stops_and_is_the_agent_that_it_began_with(
    taught: Path, tmp_path: Path, lora_rank: int
) -> None:
    optimizer = OptimizerSettings(learning_rate=1.0, schedule="constant") if lora_rank else SABOTAGED
    settings = SFTSettings(
        batch_size=4, max_steps=40, optimizer=optimizer, lora_rank=lora_rank, monitor=WATCHED
    )
    spent = run_sft(taught, TRAJECTORIES, settings, tmp_path, "sft", exam=EXAM)
    assert spent.steps == 4
    assert (
        "exam recall is 0.000, more than 0.05 below its best (1.000 at step 0) in 2 exams" in spent.notes[0]
    )
    assert "kept the weights that training began with (exam recall 1.000, last 0.000)" in spent.notes[-1]
    assert_same_weights([tmp_path, taught])


def test_a_run_that_is_sabotaged_on_its_way_goes_back_to_its_best_checkpoint(
    taught: Path, tmp_path: Path
) -> None:
    """The learning rate rises until it is a hundred times too high."""
    rising = SABOTAGED.model_copy(update={"schedule": "linear", "warmup_ratio": 0.9})
    settings = SFTSettings(batch_size=4, max_steps=400, optimizer=rising, monitor=WATCHED)
    spent = run_sft(taught, TRAJECTORIES, settings, tmp_path, "sft", exam=EXAM)
    scores = {int(entry["step"]): entry["exam/recall"] for entry in exams_of(tmp_path)}
    best = max(scores, key=lambda step: (scores[step], step))
    assert 0 < best < spent.steps < 400
    assert f"kept the weights of step {best} " in spent.notes[-1]
    assert_same_weights([tmp_path, tmp_path / "trainer" / f"checkpoint-{best}"])


def test_dapo_that_is_sabotaged_stops_and_goes_back(taught: Path, tmp_path: Path) -> None:
    watched = WATCHED.model_copy(update={"every_steps": 1})
    settings = DAPOSettings(
        prompts_per_step=2, group_size=8, row_batch_size=8, max_steps=8, max_resampling=2, optimizer=SABOTAGED,
        monitor=watched,
    )  # fmt: skip
    rollouts = RolloutSettings(RewardSettings(), RolloutEngineSettings(), ServingSettings())
    spent = run_dapo(taught, TASKS, EXAM.search, settings, rollouts, tmp_path, "dapo", exam=EXAM)
    scores = [entry["exam/recall"] for entry in exams_of(tmp_path)]
    assert scores[0] == 1.0
    assert max(scores[-2:]) < 0.95
    assert spent.steps == len(scores) - 1 < 8
    assert spent.notes[0].startswith(f"step {spent.steps}: exam recall is {scores[-1]:.3f}")
    best = max(at for at, score in enumerate(scores) if score == 1.0)
    assert_same_weights([tmp_path, tmp_path / "trainer" / f"checkpoint-{best}" if best else taught])


def test_a_task_of_an_exam_that_fails_counts_as_wrong_and_is_counted(
    taught: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = MaskSearchAgent.from_pretrained(taught, search=EXAM.search)
    model: Any = agent.model
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(process_index=0, num_processes=1),
        model=model.model,
        processing_class=model.tokenizer,
        state=SimpleNamespace(global_step=0),
    )
    whole, others = (Exam(agent, tasks)(trainer) for tasks in (TASKS, TASKS[1:]))
    assert (whole["exam/failed"], whole["exam/recall"]) == (0, 1)
    run_task = MaskSearchAgent.run_task

    async def fail(self: MaskSearchAgent, task: SearchTask, *rest: Any) -> Trajectory:
        if task is TASKS[0]:
            raise ConnectionError("the search is down")
        return await run_task(self, task, *rest)

    monkeypatch.setattr(MaskSearchAgent, "run_task", fail)
    cut = Exam(agent, TASKS)(trainer)
    assert (cut["exam/failed"], cut["exam/recall"], cut["exam/em"]) == (1, 0.75, 0.75)
    assert cut["exam/sampled_tokens"] == others["exam/sampled_tokens"]
