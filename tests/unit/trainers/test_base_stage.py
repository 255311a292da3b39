from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from masksearch_agent.config.trainers import BaseStageSettings, ReadingPhase  # noqa: E402
from masksearch_agent.corpus.closed_world import make_world  # noqa: E402
from masksearch_agent.models.local import load_checkpoint  # noqa: E402
from masksearch_agent.trainers.base_stage import make_reading_blocks, train_base  # noqa: E402

PHASE = ReadingPhase(
    world_seeds=(1_000, 1_001), entities_per_block=5, block_tokens=256, batch_size=4, steps=3
)
SETTINGS = BaseStageSettings(
    phases=(PHASE, PHASE.model_copy(update={"world_seeds": (1_001, 1_002), "block_tokens": 320, "steps": 2})),
    tokenizer_worlds=1,
    vocab_size=900,
    hidden_size=32,
    layers=1,
    heads=2,
)


@pytest.fixture(scope="module")
def blocks(tiny_tokenizer: Any) -> list[dict[str, Any]]:
    return list(make_reading_blocks(PHASE, tiny_tokenizer))


def test_every_block_has_exactly_the_tokens_asked_for_and_learns_all_of_them(
    blocks: list[dict[str, Any]],
) -> None:
    assert len(blocks) == len(make_world(1_000, 600, 0, is_repetitive=True).entities)
    assert {len(block["input_ids"]) for block in blocks} == {256}
    assert all(block["labels"] == block["input_ids"] for block in blocks)


def test_blocks_are_the_same_every_time(blocks: list[dict[str, Any]], tiny_tokenizer: Any) -> None:
    assert list(make_reading_blocks(PHASE, tiny_tokenizer)) == blocks


def test_a_short_block_is_filled_up_from_its_own_start(tiny_tokenizer: Any) -> None:
    phase = PHASE.model_copy(update={"entities_per_block": 1, "block_tokens": 600})
    found = [block["input_ids"] for block in make_reading_blocks(phase, tiny_tokenizer)]
    assert found
    passages = {f"{p.title}: {p.text}\n" for p in make_world(1_000, 600, 0, is_repetitive=True).passages}
    longest = max(len(tiny_tokenizer(text)["input_ids"]) for text in passages)
    repeated = [ids for ids in found if any(ids[n:] == ids[: len(ids) - n] for n in range(longest, len(ids)))]
    assert repeated


def test_the_text_holds_no_step_of_the_protocol(blocks: list[dict[str, Any]], tiny_tokenizer: Any) -> None:
    texts = [tiny_tokenizer.decode(block["input_ids"]) for block in blocks[:50]]
    assert not [text for text in texts if "<search>" in text or "<think>" in text or "?" in text]


def test_the_base_model_is_saved_as_an_ordinary_checkpoint(tmp_path: Path) -> None:
    train_base(SETTINGS, tmp_path)
    model, tokenizer = load_checkpoint(tmp_path)
    assert len(tokenizer) == model.config.vocab_size <= 900
    assert tokenizer.chat_template
    name = next(iter(make_world(1_000, 600, 0, is_repetitive=True).entities))
    assert tokenizer.decode(tokenizer(name)["input_ids"]) == name
    assert model(torch.tensor([tokenizer(name)["input_ids"]])).logits.isfinite().all()


def test_a_run_whose_phases_are_all_done_ends_with_the_same_weights(tmp_path: Path) -> None:
    train_base(SETTINGS, tmp_path)
    first = load_checkpoint(tmp_path)[0].state_dict()
    train_base(SETTINGS, tmp_path)
    again = load_checkpoint(tmp_path)[0].state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
