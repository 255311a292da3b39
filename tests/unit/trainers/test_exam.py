from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from fakes.tiny_models import make_test_model  # noqa: E402

from masksearch_agent.agent.runnable import MaskSearchAgent  # noqa: E402
from masksearch_agent.config.agent import AgentSettings  # noqa: E402
from masksearch_agent.models.local import LocalChatModel  # noqa: E402
from masksearch_agent.records import SearchTask  # noqa: E402
from masksearch_agent.trainers.exam import Exam  # noqa: E402


def test_an_exam_whose_runs_all_end_before_their_first_step_has_no_share_of_steps(
    tiny_tokenizer: Any,
) -> None:
    def search(query: str) -> list[str]:
        time.sleep(0.3)
        return ["Ada Fenwick is the mayor."]

    chat = LocalChatModel(model=make_test_model(tiny_tokenizer, max_positions=2048), tokenizer=tiny_tokenizer)
    agent = MaskSearchAgent(chat, search, AgentSettings(search_first=True, time_limit_s=0.1))
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(process_index=0, num_processes=1),
        model=chat.model,
        processing_class=tiny_tokenizer,
        state=SimpleNamespace(global_step=0),
    )
    try:
        metrics = Exam(agent, [SearchTask("t", "qa", "Who leads Port Aldin?", (("Ada",),))])(trainer)
    finally:
        chat.close()
    assert (metrics["exam/recall"], metrics["exam/failed"]) == (0.0, 0.0)
    assert "exam/well_formed" not in metrics
