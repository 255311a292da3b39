"""The base stage: a tiny model made from scratch learns to read, before any search training.

It is plain language modelling of closed-world text from seeds that no other stage uses. A training sequence is
about a few linked entities and tells each of their facts more than once, in other words, so the second telling can
be predicted only by finding the first and copying from it. That is what every pre-trained language model can do and
what a model needs before search training makes sense. It includes single questions with their answers, as in any text;
multi-hop questions, queries, masks and protocol steps are never shown here.

The phases go from easy to hard: notes that are always worded alike, then sentences in varied words, then articles as
the search returns them, with a review of what they said. Some sequences are about entities of one kind with similar
names, whose facts only the subject's whole name tells apart. The phases share one optimizer and one learning-rate
schedule, so the sequences are read in order.
"""

from __future__ import annotations

import random
from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.environment import computes_bfloat16
from masksearch_agent.lab.closed_world import ClosedWorld, Fact, make_world
from masksearch_agent.lab.recipe import BaseStageSettings, ReadingPhase
from masksearch_agent.lab.tiny import make_tiny_model, make_tiny_tokenizer
from masksearch_agent.lab.world_language import WORDS
from masksearch_agent.lab.world_questions import make_questions
from masksearch_agent.records import Passage
from masksearch_agent.trainers.optimization import optimizer_arguments

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, TrainerCallback

__all__ = ("make_reading_blocks", "train_base")

_FactWriter = Callable[[Fact, random.Random], str]
_Form = Callable[[Sequence[Fact], random.Random], list[str]]

_ENTITIES_PER_WORLD = 600
_TELLINGS_PER_FACT = 4
_ARTICLES_SHARE = 0.65
"""Share of a sequence's tokens that articles fill; the rest reviews their facts."""
_COMMON_SHARE = 0.25
_OWN_SHARE = 0.5
"""What becomes of the embeddings of unseen tokens: a quarter of their common direction, and a random one of their own
half as large as the embeddings of other tokens. A larger one makes the model write them; a smaller one hides them."""
_NUMBERED_SHARE = 0.5
"""Share of sequences whose articles are numbered, as the items of a list are."""


def train_base(
    settings: BaseStageSettings, directory: Path, callbacks: tuple[TrainerCallback, ...] = ()
) -> None:
    """Train the tiny base model and save it in the directory, with its tokenizer, as an ordinary checkpoint.

    The trainer's own checkpoints are kept in `trainer/`, and a stopped run goes on from the last of them.
    """
    import torch
    from transformers import PrinterCallback, Trainer, TrainingArguments

    from masksearch_agent.trainers.resumption import train_from_last

    torch.manual_seed(settings.seed)
    tokenizer = make_tiny_tokenizer(_tokenizer_texts(settings), settings.vocab_size)
    model = make_tiny_model(
        tokenizer, settings.hidden_size, settings.layers, settings.heads, seed=settings.seed
    )
    blocks = _read_in_order(settings, tokenizer)
    arguments, optimizer = optimizer_arguments(settings.optimizer)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(directory / "trainer"),
            per_device_train_batch_size=settings.batch_size,
            max_steps=sum(phase.steps for phase in settings.phases),
            train_sampling_strategy="sequential",
            logging_steps=20,
            save_steps=settings.save_steps,
            save_total_limit=1,
            report_to=[],
            use_cpu=not torch.cuda.is_available(),
            bf16=settings.bf16 and computes_bfloat16(),
            torch_compile=settings.compile,
            seed=settings.seed,
            disable_tqdm=True,
            **arguments,
        ),
        train_dataset=blocks,
        data_collator=_collate,
        optimizer_cls_and_kwargs=optimizer,
        callbacks=list(callbacks),
    )
    # It prints every metric to standard output, which is for results.
    trainer.remove_callback(PrinterCallback)
    train_from_last(trainer)
    renew_unseen_embeddings(model, {token for block in blocks for token in block}, settings.seed)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def renew_unseen_embeddings(model: LlamaForCausalLM, seen: Collection[int], seed: int) -> None:
    """Tell apart the embeddings of tokens that the text never showed; `seen` are the ids of the others.

    With tied embeddings every step pushes all tokens that are not next a little away from the hidden state, and Adam
    makes a little as large as anything. After thousands of steps the unseen tokens (`<search>`, `[mask]`, `Who`) all
    point the same way, far out, and later training could hardly tell them apart. They get a direction of their own
    each; a part of the common one stays, because it is what keeps the model from writing them.
    """
    import torch

    weight = model.get_input_embeddings().weight
    known = torch.tensor(sorted(seen))
    unseen = torch.tensor(sorted(set(range(weight.shape[0])) - set(seen)))
    own = torch.randn(len(unseen), weight.shape[1], generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        common = weight[unseen].mean(dim=0)
        weight[unseen] = _COMMON_SHARE * common + _OWN_SHARE * weight[known].std(dim=0) * own.to(weight)


def _read_in_order(settings: BaseStageSettings, tokenizer: PreTrainedTokenizerFast) -> list[array[int]]:
    blocks: list[array[int]] = []
    for number, phase in enumerate(settings.phases):
        stream = make_reading_blocks(phase, settings.block_tokens, tokenizer)
        # Two bytes a token: the text of a long base stage has to fit into memory.
        read = [array("H", next(stream)) for _ in range(phase.steps * settings.batch_size)]
        # All worlds of a phase mixed: the facts of one after the other could be remembered instead of looked up.
        random.Random(f"phase:{number}:{settings.seed}").shuffle(read)
        blocks += read
    return blocks


def _collate(blocks: Sequence[array[int]]) -> dict[str, Any]:
    import torch

    ids = torch.tensor([block.tolist() for block in blocks])
    return {"input_ids": ids, "labels": ids}


def make_reading_blocks(
    phase: ReadingPhase, block_tokens: int, tokenizer: PreTrainedTokenizerFast
) -> Iterator[list[int]]:
    """Yield sequences of exactly `block_tokens` tokens, each about a few linked entities, without end.

    Worlds are made from `phase.first_world_seed` on, one after the other.
    """
    seed = phase.first_world_seed
    while True:
        world = make_world(seed, train_entities=_ENTITIES_PER_WORLD, test_entities=0)
        rng = random.Random(f"reading:{seed}")
        library = _Library(world, tokenizer)
        names = list(world.entities)
        for _ in range(_ENTITIES_PER_WORLD // phase.entities_per_block):
            choose = _alike if rng.random() < phase.alike_share else _linked
            entities = choose(world, rng.choice(names), phase.entities_per_block, rng)
            if phase.text == "articles":
                yield library.write_articles(entities, block_tokens, rng)
            else:
                write = _note if phase.text == "notes" else _tell
                yield library.write_sentences(entities, block_tokens, rng, write)
        seed += 1


class _Library:
    """Writes text of one world, as tokens."""

    def __init__(self, world: ClosedWorld, tokenizer: PreTrainedTokenizerFast) -> None:
        self.world = world
        self.tokenizer = tokenizer
        facts = {(fact.hop.need, fact.object): fact for told in world.facts.values() for fact in told}
        self.told = defaultdict[str, list[Fact]](list)
        for mention in world.mentions:
            self.told[mention.passage_id].append(facts[mention.hop.need, mention.hop.answer])
        self.articles = defaultdict[str, list[Passage]](list)
        for passage in world.passages:
            self.articles[passage.document_id].append(passage)

    def write_sentences(
        self, entities: Sequence[str], length: int, rng: random.Random, write: _FactWriter
    ) -> list[int]:
        """Tell every fact of the entities several times, in random order."""
        facts = [fact for name in entities for fact in self.world.facts[name]]
        ids: list[int] = []
        while len(ids) < length:
            sentences = [write(fact, rng) for fact in facts for _ in range(_TELLINGS_PER_FACT)]
            rng.shuffle(sentences)
            ids += self._encode(" ".join(sentences) + "\n")
        return ids[:length]

    def write_articles(self, entities: Sequence[str], length: int, rng: random.Random) -> list[int]:
        """Show articles about the entities in random order, then review their facts until the end."""
        articles = [article for name in entities for article in self.articles[name]]
        rng.shuffle(articles)
        is_numbered = rng.random() < _NUMBERED_SHARE
        ids: list[int] = []
        facts: dict[tuple[str, str], Fact] = {}
        for number, passage in enumerate(articles, start=1):
            line = f"{passage.title}: {passage.text}\n"
            shown = self._encode(f"[{number}] {line}" if is_numbered else line)
            if ids and len(ids) + len(shown) > _ARTICLES_SHARE * length:
                break
            ids += shown
            facts |= {(fact.subject, fact.relation.label): fact for fact in self.told[passage.id]}
        while len(ids) < length:
            ids += self._encode(_review(rng.sample(list(facts.values()), len(facts)), rng))
        return ids[:length]

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text)["input_ids"]
        return ids


def _tell(fact: Fact, rng: random.Random) -> str:
    """Tell a fact in one of its wordings, by the subject's name."""
    pattern = rng.choice(fact.relation.tellings)
    return pattern.format(s=fact.subject, p=f"{fact.subject}'s", o=fact.object)


def _note(fact: Fact, rng: random.Random) -> str:
    """Tell a fact by its label: `Elise Keller's mentor is Petra Garrick.`"""
    return f"{fact.hop.need} is {fact.object}."


def _review(facts: Sequence[Fact], rng: random.Random) -> str:
    """Tell facts once more, one to four at a time, in one of the forms in which people repeat what they read."""
    lines: list[str] = []
    rest = list(facts)
    while rest:
        part = [rest.pop() for _ in range(min(len(rest), rng.randrange(1, 5)))]
        lines += rng.choice(_FORMS)(part, rng)
    return "".join(line + "\n" for line in lines)


def _name_relation(fact: Fact, rng: random.Random) -> str:
    return f"{_tell(fact, rng)[:-1]} ({fact.relation.label})."


def _describe(fact: Fact, rng: random.Random) -> str:
    phrase = rng.choice(fact.relation.noun_phrases).format(s=fact.subject)
    return f"T{phrase[1:]} is {fact.object}."


def _ask(fact: Fact, rng: random.Random) -> str:
    return f"{rng.choice(fact.relation.questions).format(s=fact.subject)} {fact.object}."


def _a_line_each(write: _FactWriter) -> _Form:
    return lambda facts, rng: [write(fact, rng) for fact in facts]


def _take_notes(facts: Sequence[Fact], rng: random.Random) -> list[str]:
    return [" ".join(_note(fact, rng) for fact in facts)]


def _list_values(facts: Sequence[Fact], rng: random.Random) -> list[str]:
    values = [f"{number}. {fact.object}" for number, fact in enumerate(facts, start=1)]
    return [*_take_notes(facts, rng), *values]


_FORMS: tuple[_Form, ...] = (
    *map(_a_line_each, (_tell, _name_relation, _describe, _ask)),
    *(_take_notes, _list_values),
)
"""How a review may tell facts, as lines."""


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


def _alike(world: ClosedWorld, start: str, count: int, rng: random.Random) -> list[str]:
    """Choose entities of one kind, every other one with a word of the first one's name if there is one."""
    same_kind = [name for name in world.entities if world.entities[name].kind == world.entities[start].kind]
    words = set(start.split()) - {"The"}
    namesakes = [name for name in same_kind if words & set(name.split())]
    chosen = [start]
    while len(chosen) < min(count, len(same_kind)):
        found = rng.choice(namesakes if rng.random() < 0.5 else same_kind)
        if found not in chosen:
            chosen.append(found)
        elif set(namesakes) <= set(chosen):
            namesakes = same_kind
    return chosen


def _tokenizer_texts(settings: BaseStageSettings) -> Iterator[str]:
    """Yield articles, questions, the prompts and each word of a name or value alone.

    Every word has to become one token, after a space and at the start of a line or a tag: a name that is spelled out
    in one place and one token in another is much harder to copy.
    """
    first = settings.phases[0].first_world_seed
    for seed in range(first, first + settings.tokenizer_worlds):
        world = make_world(seed, train_entities=_ENTITIES_PER_WORLD, test_entities=0)
        yield from (f"{passage.title}: {passage.text}\n" for passage in world.passages)
        for hops in (1, 2, 3):
            for task in make_questions(world, "train", 300, hops):
                hop = task.hops[0]
                yield f"{task.question}\nI need {hop.need}. {hop.query}: {hop.answer} [1]. [2]\n"
        yield from (
            f"system\n{text}\nuser\nassistant\n"
            for text in COMPACT_PROMPTS.model_dump().values()
            for _ in range(20)
        )
    yield from (f"{word} {word}\n" for word in WORDS for _ in range(200))
