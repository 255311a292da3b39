"""How many groups of rollouts a DAPO step needs before its gradient says more than noise.

    python benchmarks/gradient_noise.py --agent runs/quickstart/ramp_sft --tasks TASKS --index runs/quickstart/index

Rolls out one group a task, takes the gradient of each useful group's share of the loss, and estimates the gradient
noise scale (McCandlish et al., arXiv 1812.06162, section 2.2 and appendix A.1): the number of groups at which noise and
signal are equally large. With far fewer in a step, most of what the step does is noise. `TASKS` is a RAMP task file,
such as `runs/quickstart/world/questions/ramp_train.jsonl`.
"""

from __future__ import annotations

import random
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from reporting import finish_rows, make_parser
from side_by_side import quickstart_recipe

from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.evaluation.runner import evaluate, summarise
from masksearch_agent.models.local import load_checkpoint
from masksearch_agent.records import Sampling
from masksearch_agent.retrieval.index import open_index
from masksearch_agent.retrieval.search import Search
from masksearch_agent.rewards.mix import RewardMix
from masksearch_agent.stages.tasks import read_task_files
from masksearch_agent.trainers.batches import collate_rows
from masksearch_agent.trainers.dapo import dapo_loss
from masksearch_agent.trainers.rollouts import Group, RolloutRunner

TASKS_AT_ONCE = 32


def group_gradient(model: Any, pad_token_id: int, group: Group) -> torch.Tensor:
    """Return the gradient of a group's part of the loss, summed over its tokens, as one vector."""
    rows, advantages = zip(
        *(
            (row, advantage)
            for rollout, advantage in zip(group.rollouts, group.advantages(), strict=True)
            for row in rollout.rows
        ),
        strict=True,
    )
    batch = collate_rows(rows, advantages, pad_token_id)
    sampled = batch["completion_ids"]
    logits = model(
        input_ids=torch.cat([batch["prompt_ids"], sampled], dim=1),
        attention_mask=torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
    ).logits[:, -sampled.shape[1] - 1 : -1]
    logprobs = logits.log_softmax(-1).gather(-1, sampled.unsqueeze(-1)).squeeze(-1)
    mask = batch["completion_mask"] * batch["tool_mask"]
    model.zero_grad()
    (dapo_loss(logprobs, logprobs.detach(), batch["advantages"], mask) * mask.sum()).backward()
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


def noise_scale(gradients: list[torch.Tensor]) -> float:
    """Return the noise scale in groups; infinite where no signal can be told from noise."""
    count = len(gradients)
    squared_norm = sum(float(gradient.square().sum()) for gradient in gradients) / count
    squared_mean = float((torch.stack(gradients).mean(0)).square().sum())
    # Unbiased: a mean over `count` groups still holds a share of 1 / count of the noise.
    signal = (count * squared_mean - squared_norm) / (count - 1)
    return (squared_norm - signal) / signal if signal > 0 else float("inf")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--agent", type=Path, required=True, help="Agent bundle.")
    parser.add_argument("--tasks", type=Path, required=True, help="RAMP task file.")
    parser.add_argument("--index", type=Path, required=True, help="What the tasks are answered from.")
    parser.add_argument("--count", type=int, default=192, help="Tasks, drawn from the file.")
    parser.add_argument("--group-size", type=int, default=8, help="Rollouts a task.")
    arguments = parser.parse_args()
    recipe = quickstart_recipe()
    tasks = read_task_files([arguments.tasks])
    tasks = random.Random(arguments.seed).sample(tasks, min(arguments.count, len(tasks)))
    search = Search(open_index(arguments.index, recipe.retrieval.mode)).for_run()
    groups: list[Group] = []
    with closing(MaskSearchAgent.from_pretrained(arguments.agent, search)) as agent:
        greedy = summarise(evaluate(agent, tasks, recipe.evaluation), recipe.evaluation)
        runner = RolloutRunner(
            agent, RewardMix(recipe.rewards), Sampling(temperature=1.0), arguments.group_size
        )
        for start in range(0, len(tasks), TASKS_AT_ONCE):
            groups += runner.run(tasks[start : start + TASKS_AT_ONCE], seed=arguments.seed + start)
    model, tokenizer = load_checkpoint(arguments.agent, "float32")
    useful = [group for group in groups if group.fate == "useful"]
    gradients = [group_gradient(model, tokenizer.pad_token_id, group) for group in useful]
    rewards = [rollout.reward.answer for group in groups for rollout in group.rollouts]
    row = {
        "agent": str(arguments.agent),
        "tasks": len(tasks),
        "greedy recall": greedy.recall,
        "sampled reward": sum(rewards) / len(rewards),
        "useful groups": len(useful),
        "noise scale, groups": noise_scale(gradients),
    }
    fates = Counter(group.fate for group in groups)
    finish_rows(arguments, [row], ", ".join(f"{count} {fate}" for fate, count in fates.most_common()))


if __name__ == "__main__":
    main()
