"""A model in float32 and in bfloat16 on this machine's processor: which one a recipe is better computed in here.

    python benchmarks/precision.py --model runs/models/smollm2-135m

Times, on one thread, the forward and backward pass of a row with adapters, the reading of a prompt, and a decoding step
after it, the precisions in turn. `environment.computes_bfloat16` says what the library takes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from peft import get_peft_model
from reporting import finish_rows, make_parser
from side_by_side import add_repeats_argument
from transformers import AutoModelForCausalLM

from masksearch_agent.environment import computes_bfloat16
from masksearch_agent.trainers.logprobs import score_labels
from masksearch_agent.trainers.optimization import lora_config

LABELLED = 20
"""Tokens of a row that carry a loss: a step and a short answer."""


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Return the median time of `work`, after a first call in which kernels are chosen."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - start))
    return median(times)


def measure(model: Path, dtype: torch.dtype, tokens: int, repeats: int) -> dict[str, float]:
    """Return the milliseconds of a training row, of a prompt and of a token after it."""
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=dtype)
    ids = torch.randint(0, policy.config.vocab_size, (1, tokens))
    labels = torch.full_like(ids, -100)
    labels[:, -LABELLED:] = ids[:, -LABELLED:]
    with torch.inference_mode():
        prompt = milliseconds(lambda: policy(ids, logits_to_keep=1), repeats)
        cache = policy(ids, use_cache=True, logits_to_keep=1).past_key_values
        token = milliseconds(lambda: policy(ids[:, :1], past_key_values=cache), repeats)
    adapted = get_peft_model(policy, lora_config(32))

    def train() -> None:
        score_labels(adapted, ids, labels).log_probs.sum().backward()
        adapted.zero_grad()

    return {"training row, ms": milliseconds(train, repeats), "prompt, ms": prompt, "token, ms": token}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="Causal language model.")
    parser.add_argument("--tokens", type=int, default=384, help="Of a row and of a prompt.")
    add_repeats_argument(parser, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    rows = [
        {
            "precision": str(dtype).removeprefix("torch."),
            **measure(arguments.model, dtype, arguments.tokens, arguments.repeats),
        }
        for dtype in (torch.float32, torch.bfloat16)
    ]
    taken = "bfloat16" if computes_bfloat16() else "float32"
    finish_rows(arguments, rows, f"the library computes in {taken} on this processor")


if __name__ == "__main__":
    main()
