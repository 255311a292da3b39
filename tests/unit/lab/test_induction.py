from __future__ import annotations

import random

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from masksearch_agent.lab.induction import start_with_induction

WORDS = 100


def make_model(**changes: object) -> LlamaForCausalLM:
    settings = {
        "vocab_size": WORDS,
        "hidden_size": 128,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "tie_word_embeddings": True,
        "attention_bias": True,
    }
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**settings | changes))


def share_copied(model: LlamaForCausalLM) -> float:
    """Return how often the next word is predicted while a list of distinct words is read a second time."""
    rng = random.Random(0)
    lists = torch.tensor([rng.sample(range(WORDS), 20) * 2 for _ in range(20)])
    with torch.inference_mode():
        predicted = model(lists).logits.argmax(-1)
    return float((predicted[:, 20:-1] == lists[:, 21:]).float().mean())


def test_an_untrained_model_copies_what_followed_a_word_before():
    model = make_model()
    assert share_copied(model) < 0.1
    start_with_induction(model)
    assert share_copied(model) > 0.7


def test_a_seed_decides_the_start():
    one, same, other = (make_model() for _ in range(3))
    for model, seed in ((one, 1), (same, 1), (other, 2)):
        start_with_induction(model, seed)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.model.embed_tokens.weight, other.model.embed_tokens.weight)


@pytest.mark.parametrize(
    "changes", [{"attention_bias": False}, {"num_hidden_layers": 1}, {"num_attention_heads": 1}]
)
def test_a_model_of_another_shape_is_refused(changes: dict[str, object]):
    with pytest.raises(ValueError, match="attention biases, two layers or more and an even number of heads"):
        start_with_induction(make_model(**changes))
