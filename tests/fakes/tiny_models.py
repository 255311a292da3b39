"""A real model and tokenizer, as small as they can be."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

LINES = tuple(
    f"{subject} is the {relation} of {value} in the year 19{number:02d}."
    for number, (subject, relation, value) in enumerate(
        (s, r, v)
        for s in ("Ada Fenwick", "Bram Holt", "Clara Voss", "The Velling Works", "Port Aldin")
        for r in ("founder", "author", "birthplace", "mayor", "product")
        for v in ("Harrow Ltd", "The Silent Mill")
    )
)


def make_test_tokenizer() -> Any:
    """Return a tokenizer of a few hundred entries, learned from `LINES`."""
    from masksearch_agent.lab.tiny import make_tiny_tokenizer

    return make_tiny_tokenizer(LINES, vocab_size=400)


def make_test_model(tokenizer: Any, max_positions: int = 512, seed: int = 0) -> Any:
    """Return an untrained Llama with two layers of width 32.

    Its weights are large: at the usual scale all tokens are about equally likely whatever was read, and a test would
    not see the difference between right and wrong probabilities.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=max_positions,
        tie_word_embeddings=True,
        attention_bias=True,
        initializer_range=0.4,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        model.get_input_embeddings().weight.mul_(0.5)
    return model.eval()


@contextmanager
def forced_continuation(model: Any, ids: Sequence[int]) -> Iterator[None]:
    """Make a model continue each id of a chain with the next one; the ids must be distinct."""
    following = dict(pairwise(ids))
    assert len(following) == len(ids) - 1, "a chain cannot hold an id twice"

    def force(_module: Any, _args: Any, kwargs: dict[str, Any], output: Any) -> None:
        for row, last in enumerate(kwargs["input_ids"][:, -1].tolist()):
            if last in following:
                output.logits[row, -1, following[last]] += 1000.0

    hook = model.register_forward_hook(force, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


LISTED_PIECES = (
    *("<|pad|>", "<|im_start|>", "<|im_end|>", "\n", "system", "user", "assistant"),  # 0 to 6
    *("<think>", "</think>", "<search>", "</search>", "<answer>", "</answer>", "</search>.\n"),  # 7 to 13
    *("Answer", "Who", "Ada", "Bram", "Harrow", "found"),  # 14 to 19
)


def make_listed_tokenizer() -> Any:
    """Return a tokenizer whose ids are the places in `LISTED_PIECES`, so that a test can write them by hand.

    The other printable characters follow, one token each.
    """
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    from masksearch_agent.lab.tiny import CHAT_TEMPLATE

    words = [(piece, -1.0) for piece in LISTED_PIECES]
    characters = [(chr(code), -50.0) for code in range(32, 127)]
    tokenizer = Tokenizer(models.Unigram([*words, *characters], unk_id=0))
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_bracket_tokenizer() -> Any:
    """Return a Unigram tokenizer with bytes and with special tokens that are no tags of a chat: as Mistral's and
    SmolLM2's have.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    names = (
        "<|pad|>",
        "<|im_start|>",
        "<|im_end|>",
        "[INST]",
        "[/INST]",
        "<file_name>",
        "<jupyter_start>",
        "<unused7>",
    )
    pieces = [("<unk>", 0.0), *((f"<0x{byte:02X}>", -60.0) for byte in range(256))]
    pieces += [(chr(code), -30.0) for code in range(33, 127)] + [
        ("▁", -20.0),
        ("search", -10.0),
        ("the", -9.0),
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in names])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        clean_up_tokenization_spaces=False,
    )
    from masksearch_agent.lab.tiny import CHAT_TEMPLATE

    fast.chat_template = CHAT_TEMPLATE
    return fast


def with_template(tokenizer: Any, template: str | None) -> Any:
    """Return a copy of a tokenizer with another chat template."""
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    return changed
