"""The tiny model: a Llama of about a million parameters, made from scratch, that learns to search on a laptop.

Its tokenizer is a byte-level BPE, so it reads any text, learned from closed-world text, so the words of that
world are one token each. The protocol's tags are tokens of their own. The chat template keeps every turn as
it was written: rendering a longer conversation only ever appends.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from masksearch_agent.lab.induction import start_with_induction

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

__all__ = ("CHAT_TEMPLATE", "PROTOCOL_TOKENS", "make_tiny_model", "make_tiny_tokenizer", "tiny_base_path")

PAD_TOKEN = "<|pad|>"
START_TOKEN = "<|im_start|>"
END_TOKEN = "<|im_end|>"
PROTOCOL_TOKENS = (
    "<think>", "</think>", "<search>", "</search>", "<answer>", "</answer>", "<information>", "</information>",
    "[mask]",
)  # fmt: skip

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""ChatML, without the system prompt that some models insert on their own."""


def make_tiny_tokenizer(texts: Iterable[str], vocab_size: int = 2048) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer; `vocab_size` includes special and protocol tokens."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    # Digits in pairs: a year is two tokens, as a name is, and no number needs a token of its own.
    digits = pre_tokenizers.Split(Regex(r"\d{1,2}"), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(PROTOCOL_TOKENS),
        special_tokens=[PAD_TOKEN, START_TOKEN, END_TOKEN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in PROTOCOL_TOKENS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD_TOKEN,
        eos_token=END_TOKEN,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_tiny_model(
    tokenizer: PreTrainedTokenizerFast,
    hidden_size: int = 128,
    layers: int = 4,
    heads: int = 4,
    max_positions: int = 2048,
    seed: int = 0,
) -> LlamaForCausalLM:
    """Make an untrained Llama for a tokenizer, with tied embeddings.

    It starts with an induction head (`lab.induction`), without which a model of this size would spend most of its
    training on learning to copy. Attention has biases, so a head can look at a position without spending a direction
    of the hidden state on it.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 8 // 3 // 32 * 32,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max_positions,
        tie_word_embeddings=True,
        attention_bias=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    start_with_induction(model, seed)
    return model


def tiny_base_path() -> Path:
    """Return the folder of the tiny base model that the package ships: it can read, and has never searched."""
    return Path(str(resources.files("masksearch_agent.lab") / "data" / "tiny_base"))
