"""DAPO on a CPU: a group's rows scored with their common prompt read once, against every row read whole.

    python benchmarks/shared_prompts.py --model runs/models/smollm2-135m

Times, on one thread, the forward and backward pass of a group with adapters, the two ways in turn. By default half of
the rollouts search once more, so that their rows are longer by what that finds.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from unittest import mock

import torch
from peft import get_peft_model
from reporting import finish_rows, make_parser
from side_by_side import add_repeats_argument
from transformers import AutoModelForCausalLM

from masksearch_agent.records import TrainingRow
from masksearch_agent.trainers import logprobs
from masksearch_agent.trainers.batches import collate_rows
from masksearch_agent.trainers.optimization import lora_config

SAMPLED = 20
"""Tokens of each of the two turns of a row: one right after the prompt, one at the end."""


def make_group(prompt_tokens: int, completions: list[int], vocabulary: int) -> dict[str, torch.Tensor]:
    """Return rows of one prompt."""
    prompt = torch.randint(0, vocabulary, (prompt_tokens,)).tolist()
    rows = []
    for tokens in completions:
        ids = (*prompt, *torch.randint(0, vocabulary, (tokens,)).tolist())
        is_sampled = [place < SAMPLED or place >= tokens - SAMPLED for place in range(tokens)]
        rows.append(TrainingRow(ids, (*[False] * prompt_tokens, *is_sampled), (0.0,) * len(ids), "t"))
    return collate_rows(rows, [1.0] * len(rows), pad_token_id=0)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="Causal language model.")
    parser.add_argument("--prompt-tokens", type=int, default=400)
    parser.add_argument(
        "--completions", default="60,60,60,60,300,300,300,300", help="Tokens after the prompt."
    )
    add_repeats_argument(parser, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    policy = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
    completions = [int(tokens) for tokens in arguments.completions.split(",")]
    batch = make_group(arguments.prompt_tokens, completions, policy.config.vocab_size)
    adapted = get_peft_model(policy, lora_config(32))

    def seconds() -> float:
        start = time.perf_counter()
        logprobs.score_completions(adapted, batch)[0].sum().backward()
        adapted.zero_grad()
        return time.perf_counter() - start

    def seconds_whole() -> float:
        with mock.patch.object(logprobs, "_rows_by_prompt", return_value=[]):
            return seconds()

    seconds()  # Kernels are chosen in it.
    pairs = [(seconds_whole(), seconds()) for _ in range(arguments.repeats)]
    whole, once = (median(each) for each in zip(*pairs, strict=True))
    rows = [
        {"rows": "each read whole", "seconds a group": whole},
        {"rows": "prompt read once", "seconds a group": once},
    ]
    finish_rows(arguments, rows, f"{whole / once:.2f} times as fast with the prompt read once")


if __name__ == "__main__":
    main()
