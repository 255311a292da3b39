"""The base stage: a tiny model made from scratch learns to read, before any search training.

It is plain language modelling of closed-world text from seeds that no other stage uses. A training sequence
holds the articles of a few linked entities in random order; as every fact is told twice, in other words, the
second telling can be predicted only by finding the first and copying from it. That is what every pre-trained
language model can do and what a model needs before search training makes sense; no question, query or protocol
step is ever shown here.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.config.trainers import BaseStageSettings, ReadingPhase
from masksearch_agent.corpus.closed_world import ClosedWorld, make_world
from masksearch_agent.corpus.world_questions import make_questions
from masksearch_agent.models.tiny import make_tiny_model, make_tiny_tokenizer
from masksearch_agent.trainers.checkpoints import find_last_checkpoint
from masksearch_agent.trainers.sft import optimizer_arguments

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback

__all__ = ("make_reading_blocks", "train_base")

logger = logging.getLogger(__name__)

_ENTITIES_PER_WORLD = 600


def train_base(
    settings: BaseStageSettings, directory: Path, callbacks: tuple[TrainerCallback, ...] = ()
) -> None:
    """Train the tiny base model and save it with its tokenizer as an ordinary checkpoint.

    Args:
        settings: Sizes, phases and seeds.
        directory: Where the checkpoint goes. The phases' own checkpoints are kept in `trainer/`, and a stopped run
            goes on from the last of them.
        callbacks: Progress display and the like.
    """
    import torch

    torch.manual_seed(settings.seed)
    tokenizer = make_tiny_tokenizer(_tokenizer_texts(settings), settings.vocab_size)
    model = make_tiny_model(
        tokenizer, settings.hidden_size, settings.layers, settings.heads, seed=settings.seed
    )
    for number, phase in enumerate(settings.phases, start=1):
        _train_phase(model, tokenizer, phase, settings, directory / "trainer" / f"phase-{number}", callbacks)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def _train_phase(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    phase: ReadingPhase,
    settings: BaseStageSettings,
    directory: Path,
    callbacks: tuple[TrainerCallback, ...],
) -> None:
    import torch
    from transformers import PrinterCallback, Trainer, TrainingArguments

    arguments, optimizer = optimizer_arguments(settings.optimizer)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(directory),
            per_device_train_batch_size=phase.batch_size,
            max_steps=phase.steps,
            logging_steps=20,
            save_steps=settings.save_steps,
            save_total_limit=1,
            report_to=[],
            use_cpu=not torch.cuda.is_available(),
            seed=settings.seed,
            disable_tqdm=True,
            **arguments,
        ),
        train_dataset=list(make_reading_blocks(phase, tokenizer)),
        optimizer_cls_and_kwargs=optimizer,
        callbacks=list(callbacks),
    )
    # It prints every metric to standard output, which is for results.
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=find_last_checkpoint(directory))


def make_reading_blocks(phase: ReadingPhase, tokenizer: PreTrainedTokenizerFast) -> Iterator[dict[str, Any]]:
    """Yield sequences of exactly `block_tokens` tokens, each about a few linked entities."""
    for seed in range(*phase.world_seeds):
        world = make_world(seed, train_entities=_ENTITIES_PER_WORLD, test_entities=0, is_repetitive=True)
        rng = random.Random(f"reading:{seed}")
        articles: dict[str, list[str]] = {}
        for passage in world.passages:
            articles.setdefault(passage.document_id, []).append(f"{passage.title}: {passage.text}\n")
        for name in world.entities:
            texts = [
                text
                for entity in _linked(world, name, phase.entities_per_block, rng)
                for text in articles[entity]
            ]
            rng.shuffle(texts)
            ids = [token for text in tokenizer(texts)["input_ids"] for token in text][: phase.block_tokens]
            # Padding would waste a step of a model this small; a short block is filled up from its own start.
            ids += ids[: phase.block_tokens - len(ids)]
            if len(ids) == phase.block_tokens:
                yield {"input_ids": ids, "labels": ids}


def _linked(world: ClosedWorld, start: str, count: int, rng: random.Random) -> list[str]:
    """Walk over entity-valued facts from an entity until `count` distinct entities are seen."""
    seen = [start]
    for _ in range(4 * count):
        if len(seen) == count:
            break
        facts = [fact for fact in world.facts[rng.choice(seen)] if fact.object in world.entities]
        found = rng.choice(facts).object if facts else rng.choice(list(world.entities))
        if found not in seen:
            seen.append(found)
    return seen


def _tokenizer_texts(settings: BaseStageSettings) -> Iterator[str]:
    """Yield articles, questions and the prompts, so that the words of each become tokens."""
    first = settings.phases[0].world_seeds[0]
    for seed in range(first, first + settings.tokenizer_worlds):
        world = make_world(seed, train_entities=_ENTITIES_PER_WORLD, test_entities=0, is_repetitive=True)
        yield from (f"{passage.title}: {passage.text}\n" for passage in world.passages)
        for hops in (1, 2, 3):
            for task in make_questions(world, "train", 300, hops):
                hop = task.hops[0]
                subject, label = hop.need.rsplit("'s ", 1)
                need = f"the {label} of {subject}"
                yield f"{task.question}\nI need {need}. The answer to {hop.query} is {hop.answer} [1]. [2]\n"
        yield from (
            f"system\n{text}\nuser\nassistant\n" for text in COMPACT_PROMPTS.texts() for _ in range(20)
        )
