from __future__ import annotations

import random
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from unit.trainers.conftest import MakeTrainer, ScriptedRunner  # noqa: E402
from unit.trainers.test_dapo import random_row, useful  # noqa: E402

from masksearch_agent.records import TrainingRow  # noqa: E402
from masksearch_agent.trainers.batches import collate_rows  # noqa: E402
from masksearch_agent.trainers.logprobs import score_completions  # noqa: E402


def gradient(model: Any, values: torch.Tensor, weights: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad((values * weights).sum(), list(model.parameters())))


def with_prompt(prompt: tuple[int, ...], row: TrainingRow) -> TrainingRow:
    """Return a row that begins with another prompt, and whose completion is as it was."""
    cut = row.prompt_length
    return TrainingRow(
        (*prompt, *row.input_ids[cut:]), (*[False] * len(prompt), *row.trainable[cut:]),
        (*[0.0] * len(prompt), *row.logprobs[cut:]), "t",
    )  # fmt: skip


def make_window_model(tokenizer: Any) -> Any:
    """Return a model that looks back three tokens in its first layer, fewer than a prompt has."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    config = Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=512, sliding_window=3,
        layer_types=["sliding_attention", "full_attention"], pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Gemma3ForCausalLM(config).eval()


def make_convolution_model(tokenizer: Any) -> Any:
    """Return a model whose first layer keeps more of what it read than keys and values."""
    from transformers import Lfm2Config, Lfm2ForCausalLM

    config = Lfm2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, layer_types=["conv", "full_attention"],
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Lfm2ForCausalLM(config).eval()


MAKE_MODEL = {"sliding window": make_window_model, "convolution": make_convolution_model}


@pytest.mark.parametrize("sharing", [(), (0, 2, 3), (0, 1, 2, 3, 4)], ids=["none", "some", "all"])
@pytest.mark.parametrize("kind", ["llama", "sliding window", "convolution", "checkpointed"])
def test_trained_tokens_get_the_numbers_and_gradients_of_trl(
    make_trainer: MakeTrainer, tiny_tokenizer: Any, sharing: tuple[int, ...], kind: str
) -> None:
    model = MAKE_MODEL[kind](tiny_tokenizer) if kind in MAKE_MODEL else None
    trainer = make_trainer(ScriptedRunner(useful), model=model)
    if kind == "checkpointed":
        trainer.model.train().gradient_checkpointing_enable()
    rng = random.Random(4)
    rows = [random_row(rng, 300) for _ in range(5)]
    prompt = tuple(range(20, 27))
    rows = [with_prompt(prompt, row) if place in sharing else row for place, row in enumerate(rows)]
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


def test_what_rows_begin_with_is_read_once(make_trainer: MakeTrainer) -> None:
    model = make_trainer(ScriptedRunner(useful)).model
    read: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(
        lambda _, args, inputs: read.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    completions = ((7,) * 4, (8,) * 5, (9,) * 20, (10,) * 3)
    prompts = (*[tuple(range(20, 40))] * 3, tuple(range(20, 39)))
    rows = [
        TrainingRow(p + c, (False,) * len(p) + (True,) * len(c), (0.0,) * (len(p) + len(c)), "t")
        for p, c in zip(prompts, completions, strict=True)
    ]
    score_completions(model, collate_rows(rows, [1.0] * 4, 0))
    # The common prompt but for its last token; what goes on from it, where five tokens are not padded to twenty; and
    # the row that has a prompt of its own.
    assert read == [(1, 19), (2, 6), (1, 21), (1, 22)]
