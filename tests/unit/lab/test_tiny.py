from __future__ import annotations

from typing import Any

import pytest
import torch
from fakes.tiny_models import make_test_model

from masksearch_agent.lab.tiny import PROTOCOL_TOKENS, make_tiny_model, make_tiny_tokenizer


@pytest.mark.parametrize(
    "text", ["Ada Fenwick", " two  spaces\n", "é 日本 🙂", "<think>a</think>", "1932-07-04"]
)
def test_any_text_survives_the_tokenizer(tiny_tokenizer: Any, text: str):
    ids = tiny_tokenizer(text)["input_ids"]
    assert tiny_tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_every_protocol_tag_is_one_token(tiny_tokenizer: Any):
    for tag in PROTOCOL_TOKENS:
        ids = tiny_tokenizer(f"a{tag}b")["input_ids"]
        assert [tiny_tokenizer.decode([i]) for i in ids] == ["a", tag, "b"]


def test_numbers_are_read_in_pairs_of_digits_wherever_they_stand(tiny_tokenizer: Any):
    pair = tiny_tokenizer("19")["input_ids"]
    assert len(pair) == 1
    for text in ("1907", "in 1907", "<answer>1907"):
        pieces = tiny_tokenizer.tokenize(text)
        assert "19" in pieces
        assert pieces[-1] in ("07", "7")


def test_the_vocabulary_stays_within_its_size():
    tokenizer = make_tiny_tokenizer(["some words to learn from " * 20], vocab_size=300)
    assert len(tokenizer) <= 300


def test_a_seed_decides_the_weights_and_leaves_the_global_generator_alone(tiny_tokenizer: Any):
    state = torch.random.get_rng_state()
    one, same, other = (
        make_tiny_model(tiny_tokenizer, hidden_size=32, layers=2, heads=2, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.model.embed_tokens.weight, other.model.embed_tokens.weight)


def test_embeddings_are_tied(tiny_tokenizer: Any):
    model = make_test_model(tiny_tokenizer)
    assert model.lm_head.weight is model.model.embed_tokens.weight
