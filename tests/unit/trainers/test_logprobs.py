from __future__ import annotations

import random
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from unit.trainers.conftest import MakeTrainer, ScriptedRunner  # noqa: E402
from unit.trainers.test_dapo import random_row, useful  # noqa: E402

from masksearch_agent.trainers.batches import collate_rows  # noqa: E402
from masksearch_agent.trainers.logprobs import score_completions  # noqa: E402


def gradient(model: Any, values: torch.Tensor, weights: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad((values * weights).sum(), list(model.parameters())))


def test_trained_tokens_get_the_numbers_and_gradients_of_trl(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ScriptedRunner(useful))
    rng = random.Random(4)
    rows = [random_row(rng, 300) for _ in range(5)]
    batch = collate_rows(rows, [1.0] * 5, 0, multiple_of=6)
    theirs, their_entropies, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model,
        torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
        torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
        logits_to_keep=batch["completion_ids"].shape[1],
        compute_entropy=True,
    )
    ours, entropies = score_completions(trainer.model, batch)
    trained = batch["tool_mask"]
    torch.testing.assert_close(ours, theirs * trained, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(entropies, their_entropies.detach() * trained, atol=1e-6, rtol=1e-6)
    weights = torch.rand(ours.shape, generator=torch.Generator().manual_seed(0)) * trained
    for one, other in zip(
        gradient(trainer.model, ours, weights), gradient(trainer.model, theirs, weights), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
