"""How well a base model looks facts up in plain text, before any search training.

    python benchmarks/fact_lookup.py src/masksearch_agent/lab/data/tiny_base

Given an article about an entity (and, in the second table, two unrelated articles) and the beginning of a sentence in
another article that retells one of its facts, does greedy decoding complete the fact? World seed 5, 150 facts.
"""

from __future__ import annotations

import random
import sys
from collections import Counter, defaultdict
from pathlib import Path

import torch

from masksearch_agent.lab.closed_world import make_world
from masksearch_agent.models.local import load_checkpoint
from masksearch_agent.ramp.spans import FactMention

FACTS = 150
WORLD_SEED = 5


def measure(checkpoint: Path, distractors: int) -> dict[str, tuple[float, int]]:
    """Return the share of facts completed and their number, by kind of object."""
    model, tokenizer = load_checkpoint(checkpoint)
    world = make_world(WORLD_SEED)
    rng = random.Random(0)
    passages = {passage.id: passage for passage in world.passages}
    tellings: defaultdict[str, list[FactMention]] = defaultdict(list)
    for mention in world.mentions:
        tellings[mention.hop.need].append(mention)
    told_twice = [mentions for mentions in tellings.values() if len(mentions) == 2]
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for first, second in rng.sample(told_twice, FACTS):
        told, retold = passages[first.passage_id], passages[second.passage_id]
        shown = [told, *rng.sample(world.passages, distractors)]
        rng.shuffle(shown)
        text = "".join(f"{passage.title}: {passage.text}\n" for passage in shown)
        text += f"{retold.title}: {retold.text[: second.start]}"
        whole = tokenizer(text + first.hop.answer)["input_ids"]
        prefix = len(tokenizer(text.rstrip())["input_ids"])
        with torch.inference_mode():
            predicted = model(torch.tensor([whole])).logits[0].argmax(-1)[prefix - 1 : -1].tolist()
        kind = world.fact(told.document_id, first.label).relation.object_kind
        asked[kind] += 1
        right[kind] += predicted == whole[prefix:]
    return {kind: (right[kind] / asked[kind], asked[kind]) for kind in sorted(asked)}


if __name__ == "__main__":
    for count in (0, 2):
        print(f"{count} unrelated articles")
        for kind, (share, number) in measure(Path(sys.argv[1]), count).items():
            print(f"  {kind:<8} {share:.2f} of {number}")
