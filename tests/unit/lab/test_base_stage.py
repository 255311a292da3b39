from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from masksearch_agent.lab.base_stage import (  # noqa: E402
    make_reading_blocks,
    renew_unseen_embeddings,
    train_base,
)
from masksearch_agent.lab.closed_world import make_world  # noqa: E402
from masksearch_agent.lab.recipe import BaseStageSettings, ReadingPhase  # noqa: E402
from masksearch_agent.lab.tiny import make_tiny_model, tiny_base_path  # noqa: E402
from masksearch_agent.lab.world_language import WORDS  # noqa: E402
from masksearch_agent.models.local import load_checkpoint  # noqa: E402

NOTES = ReadingPhase(text="notes", first_world_seed=1_000, entities_per_block=2, steps=2)
SENTENCES = ReadingPhase(text="sentences", first_world_seed=1_000, entities_per_block=2, steps=3)
ARTICLES = ReadingPhase(text="articles", first_world_seed=1_001, entities_per_block=3, steps=2)
SETTINGS = BaseStageSettings(
    phases=(SENTENCES, ARTICLES),
    block_tokens=128,
    batch_size=4,
    tokenizer_worlds=1,
    vocab_size=900,
    hidden_size=32,
    layers=2,
    heads=2,
)


def read(phase: ReadingPhase, tokenizer: Any, count: int = 60, tokens: int = 512) -> list[str]:
    blocks = list(islice(make_reading_blocks(phase, tokens, tokenizer), count))
    assert {len(block) for block in blocks} == {tokens}
    return [tokenizer.decode(block) for block in blocks]


@pytest.mark.parametrize("phase", [NOTES, SENTENCES, ARTICLES])
def test_blocks_are_the_same_every_time(phase: ReadingPhase, tiny_tokenizer: Any) -> None:
    assert read(phase, tiny_tokenizer) == read(phase, tiny_tokenizer)


@pytest.mark.parametrize("phase", [NOTES, SENTENCES, ARTICLES])
def test_the_text_holds_no_step_of_the_protocol(phase: ReadingPhase, tiny_tokenizer: Any) -> None:
    for text in read(phase, tiny_tokenizer):
        assert not [sign for sign in ("<search>", "<think>", "<answer>", "[mask]", "I need") if sign in text]


def test_questions_in_the_text_ask_for_one_fact_of_a_named_entity(tiny_tokenizer: Any) -> None:
    world = make_world(ARTICLES.first_world_seed, 600, 0)
    single = {
        question.format(s=name): fact.object
        for name, facts in world.facts.items()
        for fact in facts
        for question in fact.relation.questions
    }
    asked = [line for text in read(ARTICLES, tiny_tokenizer) for line in text.split("\n")[:-1] if "?" in line]
    assert len(asked) > 20
    for line in asked:
        question, answer = line.removesuffix(".").split("? ")
        assert single[f"{question}?"] == answer


def test_notes_are_worded_alike(tiny_tokenizer: Any) -> None:
    world = make_world(NOTES.first_world_seed, 600, 0)
    notes = {f"{fact.hop.need} is {fact.object}" for facts in world.facts.values() for fact in facts}
    for text in read(NOTES, tiny_tokenizer, count=20):
        assert set(text.split("\n")[0].removesuffix(".").split(". ")[:-1]) <= notes


def test_sentences_name_their_subject_and_tell_each_fact_again(tiny_tokenizer: Any) -> None:
    world = make_world(SENTENCES.first_world_seed, 600, 0)
    for text in read(SENTENCES, tiny_tokenizer, count=20):
        told = text.split(". ")[:-1]
        assert all(any(name in sentence for name in world.entities) for sentence in told)
        objects = [fact.object for name in world.entities if name in text for fact in world.facts[name]]
        assert max(text.count(value) for value in objects) >= 2


def test_articles_are_reviewed_with_the_facts_that_they_told(tiny_tokenizer: Any) -> None:
    world = make_world(ARTICLES.first_world_seed, 600, 0)
    passages = {f"{passage.title}: {passage.text}": passage.id for passage in world.passages}
    is_numbered = set()
    for text in read(ARTICLES, tiny_tokenizer, count=30, tokens=1024):
        lines = text.split("\n")[:-1]
        is_numbered.add(lines[0].startswith("[1] "))
        articles = [line.split("] ", 1)[-1] for line in lines if line.split("] ", 1)[-1] in passages]
        assert len(articles) >= 2
        told = {
            (mention.hop.need.rsplit("'s ", 1)[0], mention.hop.answer)
            for article in articles
            for mention in world.mentions
            if mention.passage_id == passages[article]
        }
        review = lines[len(articles) :]
        assert review
        for sentence in review:
            is_list_item = sentence[:3] in ("1. ", "2. ", "3. ", "4. ")
            assert is_list_item or any(
                subject in sentence and value in sentence for subject, value in told
            ), sentence
    assert is_numbered == {True, False}


def test_entities_of_one_kind_are_read_about_together(tiny_tokenizer: Any) -> None:
    world = make_world(ARTICLES.first_world_seed, 600, 0)
    phase = ARTICLES.model_copy(update={"alike_share": 1.0})
    for text in read(phase, tiny_tokenizer, count=20):
        titles = [line.split(":")[0].split("] ")[-1].split(" (")[0] for line in text.split("\n")[:3]]
        assert len({world.entities[title].kind for title in titles if title in world.entities}) == 1


def test_lists_hold_the_values_of_the_notes_before_them(tiny_tokenizer: Any) -> None:
    lists = 0
    for text in read(ARTICLES, tiny_tokenizer, tokens=1024):
        lines = text.split("\n")
        for number, line in enumerate(lines[:-6]):
            if line.startswith("1. "):
                notes = [note.split(" is ", 1)[1] for note in lines[number - 1].removesuffix(".").split(". ")]
                values = [f"{position}. {note}" for position, note in enumerate(notes, start=1)]
                assert lines[number : number + len(notes)] == values
                lists += 1
    assert lists > 10


def test_tokens_that_were_never_read_get_embeddings_of_their_own() -> None:
    _, tokenizer = load_checkpoint(tiny_base_path())
    model = make_tiny_model(tokenizer, hidden_size=64, layers=2, heads=2)
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        weight[20:] = 7.0  # what drifting does to them
    before = weight.detach().clone()
    renew_unseen_embeddings(model, set(range(20)), seed=0)
    assert torch.equal(weight[:20], before[:20])
    own = weight[20:].detach() - 0.25 * 7.0
    # As large in every dimension as the other embeddings are there, halved.
    torch.testing.assert_close(own.std(dim=0), 0.5 * before[:20].std(dim=0), rtol=0.15, atol=1e-3)
    own = torch.nn.functional.normalize(own, dim=1)
    assert (own @ own.T - torch.eye(len(own))).abs().mean() < 0.2
    assert torch.equal(model.get_output_embeddings().weight, weight)


def test_the_unseen_tokens_of_the_shipped_model_differ() -> None:
    model, tokenizer = load_checkpoint(tiny_base_path())
    tags = [tokenizer.convert_tokens_to_ids(tag) for tag in ("<think>", "<search>", "<answer>", "[mask]")]
    rows = torch.nn.functional.normalize(model.get_input_embeddings().weight[tags].detach(), dim=1)
    assert (rows @ rows.T - torch.eye(4)).abs().max() < 0.8


def test_every_word_of_a_name_is_one_token_of_the_shipped_model_wherever_it_stands() -> None:
    _, tokenizer = load_checkpoint(tiny_base_path())
    spelled_out = [
        form for word in WORDS for form in (word, f" {word}") if len(tokenizer(form)["input_ids"]) != 1
    ]
    assert spelled_out == []


def test_the_base_model_is_saved_as_an_ordinary_checkpoint(tmp_path: Path) -> None:
    train_base(SETTINGS, tmp_path)
    model, tokenizer = load_checkpoint(tmp_path)
    assert len(tokenizer) == model.config.vocab_size <= 900
    assert tokenizer.chat_template
    name = next(iter(make_world(1_000, 600, 0).entities))
    assert tokenizer.decode(tokenizer(name)["input_ids"]) == name
    assert model(torch.tensor([tokenizer(name)["input_ids"]])).logits.isfinite().all()


def test_a_run_that_is_done_ends_with_the_same_weights(tmp_path: Path) -> None:
    train_base(SETTINGS, tmp_path)
    first = load_checkpoint(tmp_path)[0].state_dict()
    train_base(SETTINGS, tmp_path)
    again = load_checkpoint(tmp_path)[0].state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
