"""Can a model learn, with adapters, to tell which of two years that stand in its prompt comes first?

    python benchmarks/comparing_years.py --model runs/models/smollm2-135m

That is what is left of a comparison once both passages were found and read: `Which film came out first, Grey Harbour or
Red Tide? The year of Grey Harbour is 1968. The year of Red Tide is 1950.` Names of the test are not in training, half
of the years lie at most ten apart, and chance is 0.5.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import get_peft_model
from reporting import finish_rows, make_parser
from transformers import AutoModelForCausalLM, AutoTokenizer

from masksearch_agent.environment import computes_bfloat16
from masksearch_agent.trainers.logprobs import score_labels
from masksearch_agent.trainers.optimization import lora_config

FIRST_WORDS = ("Grey", "Red", "Silent", "Golden", "Broken", "Last", "Hidden", "Distant", "Burning", "Iron")
LAST_WORDS = ("Harbour", "Tide", "River", "Garden", "Letter", "Summer", "Bridge", "Winter", "Road", "Island")
FORMS = (
    ("Which film came out first, {} or {}?", True),
    ("Which film was released earlier, {} or {}?", True),
    ("Which film was released more recently, {} or {}?", False),
    ("Which film came out later, {} or {}?", False),
)
YEARS = (1910, 2020)
NEAR, FAR = 10, 110
WARMUP_STEPS = 10


class Example(NamedTuple):
    """A prompt, the name that answers it, and the other."""

    prompt: str
    answer: str
    other: str


def draw_example(names: Sequence[str], drawn: random.Random) -> Example:
    """Return a question about two films, with the year of each."""
    pair = drawn.sample(names, 2)
    first = drawn.randint(*YEARS)
    distance = drawn.choice((NEAR, FAR))
    near = [year for year in range(YEARS[0], YEARS[1] + 1) if 0 < abs(year - first) <= distance]
    years = dict(zip(pair, (first, drawn.choice(near)), strict=True))
    form, asks_first = drawn.choice(FORMS)
    stated = " ".join(f"The year of {name} is {years[name]}." for name in drawn.sample(pair, 2))
    earlier, later = sorted(pair, key=years.__getitem__)
    answer, other = (earlier, later) if asks_first else (later, earlier)
    return Example(f"{form.format(*pair)}\n{stated}\nAnswer:", answer, other)


def score(model: Any, tokenizer: Any, prompt: str, answer: str) -> torch.Tensor:
    """Return the log-probability of an answer, in nats."""
    read = tokenizer(prompt).input_ids
    told = tokenizer(f" {answer}\n", add_special_tokens=False).input_ids
    ids = torch.tensor([read + told])
    labels = torch.tensor([[-100] * len(read) + told])
    return score_labels(model, ids, labels).log_probs.sum()


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--model", type=Path, required=True, help="Causal language model.")
    parser.add_argument("--steps", type=int, default=200, help="Of eight questions each.")
    parser.add_argument("--every", type=int, default=50, help="Steps after which the test is asked again.")
    parser.add_argument("--test-questions", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    dtype = torch.bfloat16 if computes_bfloat16() else torch.float32
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(arguments.model, dtype=dtype), lora_config(32)
    )
    optimizer = torch.optim.AdamW(
        (each for each in model.parameters() if each.requires_grad), lr=arguments.learning_rate
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARMUP_STEPS) * (1 - step / arguments.steps)
    )
    names = [" ".join(pair) for pair in product(FIRST_WORDS, LAST_WORDS)]
    drawn = random.Random(arguments.seed)
    drawn.shuffle(names)
    held_out, trained = names[: len(names) // 4], names[len(names) // 4 :]
    test = [draw_example(held_out, drawn) for _ in range(arguments.test_questions)]

    def share_right() -> float:
        with torch.inference_mode():
            right = [
                score(model, tokenizer, prompt, answer) > score(model, tokenizer, prompt, other)
                for prompt, answer, other in test
            ]
        return sum(map(bool, right)) / len(right)

    rows = [{"questions trained on": 0, "right": share_right()}]
    for step in range(1, arguments.steps + 1):
        for prompt, answer, _ in (draw_example(trained, drawn) for _ in range(8)):
            (-score(model, tokenizer, prompt, answer) / 8).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % arguments.every == 0:
            rows.append({"questions trained on": 8 * step, "right": share_right()})
            print(rows[-1], flush=True)
    finish_rows(arguments, rows)


if __name__ == "__main__":
    main()
