"""A token is read once, and what is sampled after it is what a fresh read would have given."""

from __future__ import annotations

import copy
import gc
import random
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch
from fakes.tiny_models import make_test_model
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from masksearch_agent.config.trainers import OptimizerSettings
from masksearch_agent.lab.muon import make_muon_with_adamw
from masksearch_agent.models import engine as engine_module
from masksearch_agent.models.engine import BatchingEngine
from masksearch_agent.models.prefixes import PrefixStore, States, shared_length
from masksearch_agent.models.recording import Completion
from masksearch_agent.records import Sampling

WAIT_S = 60
NO_TOKEN = -1
GREEDY = Sampling(temperature=0.0, max_tokens=6)
TOLERANCE = 1e-5
"""Of a log-probability, and of its size where that is above 1: how float32 rounds differs by processor."""


def states_of(ids: Sequence[int], start: int, end: int) -> States:
    """Return keys that say which token they are of, and values that say where it stands."""
    keys = torch.tensor(ids[start:end], dtype=torch.float32).reshape(1, -1, 1)
    values = torch.arange(start, end, dtype=torch.float32).reshape(1, -1, 1)
    return [(keys, values)]


def found(store: PrefixStore, ids: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the tokens and places of what is found."""
    length, pieces = store.find(tuple(ids))
    keys = [int(one) for [(keys, _)] in pieces for one in keys.flatten()]
    places = [int(one) for [(_, values)] in pieces for one in values.flatten()]
    assert length == len(keys)
    return keys, places


SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=12)


@given(SEQUENCES, SEQUENCES)
def test_the_longest_common_prefix_is_found(kept: list[list[int]], asked: list[list[int]]) -> None:
    store = PrefixStore(1 << 20)
    for ids in kept:
        store.add(tuple(ids), lambda start, end, ids=ids: states_of(ids, start, end))
    for ids in asked:
        longest = max(shared_length(ids, other) for other in kept)
        assert found(store, ids) == (ids[:longest], list(range(longest)))
    # A token of two floats is held once, however many sequences begin with it.
    beginnings = {tuple(ids[:end]) for ids in kept for end in range(1, len(ids) + 1)}
    assert store.size_bytes == 8 * len(beginnings)


@given(SEQUENCES, st.integers(1, 20))
def test_no_more_is_kept_than_the_limit_and_what_is_found_is_right(
    sequences: list[list[int]], limit_tokens: int
) -> None:
    store = PrefixStore(8 * limit_tokens)
    for ids in sequences:
        store.add(tuple(ids), lambda start, end, ids=ids: states_of(ids, start, end))
        assert store.size_bytes <= store.limit_bytes
        for other in sequences:
            keys, places = found(store, other)
            assert (keys, places) == (other[: len(keys)], list(range(len(keys))))


def test_what_is_cleared_is_free_without_the_collector() -> None:
    store, held = PrefixStore(1 << 20), []

    def read(start: int, end: int) -> States:
        states = states_of((0, 1, 2, 3), start, end)
        held.extend(weakref.ref(tensor) for pair in states for tensor in pair)
        return states

    for ids in ((0, 1, 2), (0, 1, 2, 3)):
        store.add(ids, read)
    gc.disable()
    try:
        store.clear()
        assert len(held) == 4
        assert all(tensor() is None for tensor in held)
    finally:
        gc.enable()
    assert (store.size_bytes, found(store, (0, 1, 2))) == (0, ([], []))


def test_what_was_not_asked_for_longest_goes_first() -> None:
    store = PrefixStore(8 * 10)
    for ids in ((1, 2, 3, 4), (1, 2, 5, 6), (7, 8, 9)):
        store.add(ids, lambda start, end, ids=ids: states_of(ids, start, end))
    assert store.size_bytes == 8 * 9
    store.find((1, 2, 3, 4))
    store.add((4, 4), lambda start, end: states_of((4, 4), start, end))
    assert [len(found(store, ids)[0]) for ids in ((1, 2, 3, 4), (1, 2, 5, 6), (7, 8, 9), (4, 4))] == [
        4,
        2,
        3,
        2,
    ]


@pytest.fixture
def engine(tiny_model: Any, tiny_tokenizer: Any) -> Iterator[BatchingEngine]:
    engine = BatchingEngine(tiny_model, tiny_tokenizer, NO_TOKEN, linger_s=0.3)
    yield engine
    engine.close()


def run(engine: BatchingEngine, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Completion]:
    futures = [engine.submit(prompt, sampling) for prompt in prompts]
    return [future.result(WAIT_S) for future in futures]


def read_by(engine: BatchingEngine, prompts: Sequence[Sequence[int]], sampling: Sampling = GREEDY) -> int:
    """Return how many prompt tokens a run reads."""
    before = engine.prompt_tokens_read
    run(engine, prompts, sampling)
    return engine.prompt_tokens_read - before


def random_ids(chance: random.Random, count: int) -> list[int]:
    return [chance.randrange(8, 400) for _ in range(count)]


def fresh_logprobs(model: Any, prompt: Sequence[int], sampled: Sequence[int]) -> list[float]:
    """Return log-probabilities of one plain forward pass over the whole: the oracle."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[*prompt, *sampled]])).logits[0].float()
    logprobs = torch.log_softmax(logits, dim=-1)
    return [logprobs[len(prompt) - 1 + k, token].item() for k, token in enumerate(sampled)]


def test_a_turn_reads_what_it_adds(engine: BatchingEngine) -> None:
    chance = random.Random(0)
    prompt = random_ids(chance, 50)
    [first] = run(engine, [prompt], GREEDY)
    assert engine.prompt_tokens_read == 50
    longer = [*prompt, *first.ids, *random_ids(chance, 20)]
    # The last token that was sampled has not been read yet.
    assert read_by(engine, [longer]) == 21


def test_the_prompt_of_a_group_is_read_once(engine: BatchingEngine) -> None:
    prompt = random_ids(random.Random(0), 100)
    # The others read its last token, for what follows it.
    assert read_by(engine, [prompt] * 8) == 100 + 7


def test_what_all_prompts_begin_with_is_read_once_and_each_group_s_own_once(engine: BatchingEngine) -> None:
    chance = random.Random(0)
    common = random_ids(chance, 60)
    prompts = [[*common, *random_ids(chance, 40)] for _ in range(4)]
    assert read_by(engine, [prompt for prompt in prompts for _ in range(3)]) == 60 + 4 * 40 + 8


def test_short_common_beginnings_do_not_hold_a_prompt_back(engine: BatchingEngine, tiny_model: Any) -> None:
    passes = []
    hook = tiny_model.register_forward_pre_hook(
        lambda _model, _args, kwargs: passes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    chance = random.Random(0)
    common = random_ids(chance, 20)
    run(engine, [[*common, *random_ids(chance, 40)] for _ in range(4)], Sampling(max_tokens=1))
    hook.remove()
    assert passes[1:] == [(4, 60)]


def test_prompts_of_very_different_lengths_are_not_padded_to_the_longest(
    engine: BatchingEngine, tiny_model: Any
) -> None:
    passes = []
    hook = tiny_model.register_forward_pre_hook(
        lambda _model, _args, kwargs: passes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    chance = random.Random(0)
    run(engine, [random_ids(chance, count) for count in (300, 30, 290, 35)], Sampling(max_tokens=1))
    hook.remove()
    assert passes[1:] == [(2, 300), (2, 35)]


def test_an_engine_that_keeps_nothing_reads_everything(tiny_model: Any, tiny_tokenizer: Any) -> None:
    engine = BatchingEngine(tiny_model, tiny_tokenizer, NO_TOKEN, linger_s=0.3, kept_bytes=0)
    prompt = random_ids(random.Random(0), 100)
    assert read_by(engine, [prompt] * 8) == 800
    assert engine.prefixes.size_bytes == 0
    engine.close()


def make_sliding_model(kind: str, tokenizer: Any, attention: str) -> Any:
    """Return an untrained model whose layers, or every second one, attend to the last 16 tokens."""
    config = AutoConfig.for_model(
        kind,
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=512,
        sliding_window=16,
        initializer_range=0.3,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    if kind == "gemma3_text":
        config.layer_types = ["sliding_attention", "full_attention"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


class Conversation:
    """Turns of one lineage: each prompt goes on from what was sampled."""

    def __init__(self, seed: int, opening: Sequence[int]) -> None:
        self.chance = random.Random(seed)
        self.ids = list(opening)
        self.asked: list[tuple[list[int], Sampling]] = []
        self.sampled: list[Completion] = []

    def ask(self) -> tuple[list[int], Sampling]:
        self.ids += random_ids(self.chance, self.chance.choice((1, 3, 30, 60)))
        temperature = self.chance.choice((0.0, 1.0))
        sampling = Sampling(
            temperature, max_tokens=self.chance.randint(1, 9), seed=self.chance.randrange(100)
        )
        self.asked.append((list(self.ids), sampling))
        return self.asked[-1]

    def hear(self, completion: Completion) -> None:
        self.sampled.append(completion)
        self.ids += completion.ids


MODELS = {
    "Llama": lambda tokenizer, attention: make_test_model(tokenizer),
    "Gemma 3": lambda tokenizer, attention: make_sliding_model("gemma3_text", tokenizer, attention),
    "Mistral": lambda tokenizer, attention: make_sliding_model("mistral", tokenizer, attention),
}


@pytest.mark.parametrize(
    ("kept_tokens", "share_read", "kind", "attention"),
    [
        (30, 1.0, "Llama", "sdpa"),
        (300, 0.9, "Llama", "sdpa"),
        (100_000, 0.3, "Llama", "sdpa"),
        (100_000, 0.3, "Gemma 3", "sdpa"),
        (100_000, 0.3, "Gemma 3", "eager"),
        (100_000, 0.3, "Mistral", "sdpa"),
    ],
)
def test_many_turns_of_many_give_what_a_fresh_read_gives(
    tiny_tokenizer: Any, kept_tokens: int, share_read: float, kind: str, attention: str
) -> None:
    """Mixed batches, slots that move, cancelled requests, and where little is kept, evictions."""
    tiny_model = MODELS[kind](tiny_tokenizer, attention)
    bytes_a_token = 2 * 2 * 32 * 4  # keys and values of two layers of width 32
    keeping = BatchingEngine(
        tiny_model, tiny_tokenizer, NO_TOKEN, max_batch_size=5, kept_bytes=kept_tokens * bytes_a_token
    )
    chance = random.Random(kept_tokens)
    system = random_ids(chance, 50)
    openings = [[*system, *random_ids(chance, 40)] for _ in range(3)]
    conversations = [Conversation(seed, openings[seed % 3]) for seed in range(12)]
    for _ in range(4):
        futures = [(one, keeping.submit(*one.ask())) for one in conversations]
        for opening in openings:
            keeping.submit([*opening, 9], Sampling(max_tokens=20)).cancel()
        for one, future in futures:
            one.hear(future.result(WAIT_S))
        assert keeping.prefixes.size_bytes <= kept_tokens * bytes_a_token
    keeping.close()

    reading = BatchingEngine(tiny_model, tiny_tokenizer, NO_TOKEN, kept_bytes=0)
    for one in conversations:
        for (prompt, sampling), completion in zip(one.asked, one.sampled, strict=True):
            fresh = reading.submit(prompt, sampling).result(WAIT_S)
            assert completion.ids == fresh.ids
            assert completion.logprobs == pytest.approx(fresh.logprobs, rel=TOLERANCE, abs=TOLERANCE)
            expected = fresh_logprobs(tiny_model, prompt, completion.ids)
            assert completion.logprobs == pytest.approx(expected, rel=TOLERANCE, abs=TOLERANCE)
    reading.close()
    assert keeping.prompt_tokens_read <= share_read * reading.prompt_tokens_read


def step_with(make_optimizer: Callable[[Any], Any]) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        optimizer = make_optimizer([one for one in model.parameters() if one.requires_grad])
        model(input_ids=torch.arange(8, 40)[None], labels=torch.arange(8, 40)[None]).loss.backward()
        optimizer.step()

    return change


def step_with_muon(model: Any) -> None:
    step_with(lambda _: make_muon_with_adamw(model, OptimizerSettings(name="muon")))(model)


def load_others(model: Any) -> None:
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    model.load_state_dict(other.state_dict())


def scale_data(model: Any) -> None:
    for parameter in model.parameters():
        parameter.data *= 1.1


def replace_data(model: Any) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data * 1.1


def change_one_embedding(model: Any) -> None:
    """What the model says to any other token stays the same."""
    with torch.no_grad():
        model.get_input_embeddings().weight[300] *= 3


def change_in_inference_mode(model: Any) -> None:
    with torch.inference_mode():
        model.model.layers[0].mlp.up_proj.weight.mul_(1.1)


CHANGES = {
    "AdamW, each": step_with(lambda parameters: torch.optim.AdamW(parameters, lr=0.01, foreach=False)),
    "AdamW, all at once": step_with(lambda parameters: torch.optim.AdamW(parameters, lr=0.01, foreach=True)),
    "AdamW, fused": step_with(lambda parameters: torch.optim.AdamW(parameters, lr=0.01, fused=True)),
    "Muon": step_with_muon,
    "state dict": load_others,
    "data in place": scale_data,
    "data replaced": replace_data,
    "one embedding": change_one_embedding,
    "inference mode": change_in_inference_mode,
    "precision": lambda model: model.to(torch.bfloat16).to(torch.float32),
}


def assert_as_fresh(engine: BatchingEngine, model: Any, tokenizer: Any, prompt: list[int]) -> Completion:
    """Ask an engine that has kept a prompt, and compare with one that has not."""
    [completion] = run(engine, [prompt], GREEDY)
    fresh = BatchingEngine(model, tokenizer, NO_TOKEN)
    [expected] = run(fresh, [prompt], GREEDY)
    fresh.close()
    assert completion.ids == expected.ids
    assert completion.logprobs == pytest.approx(expected.logprobs, rel=TOLERANCE, abs=TOLERANCE)
    return completion


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_weights_that_change_are_noticed(tiny_tokenizer: Any, change: Callable[[Any], None]) -> None:
    model = make_test_model(tiny_tokenizer)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    engine = BatchingEngine(model, tiny_tokenizer, NO_TOKEN)
    prompt = [*random_ids(random.Random(0), 50), 300, 9]
    [before] = run(engine, [prompt], GREEDY)
    change(model)
    after = assert_as_fresh(engine, model, tiny_tokenizer, prompt)
    assert after.logprobs != pytest.approx(before.logprobs, abs=1e-4), "the change makes a difference"
    engine.close()


def test_adapters_that_are_added_trained_merged_or_disabled_are_noticed(tiny_tokenizer: Any) -> None:
    from peft import LoraConfig, get_peft_model

    model = make_test_model(tiny_tokenizer)
    engine = BatchingEngine(model, tiny_tokenizer, NO_TOKEN)
    prompt = random_ids(random.Random(0), 50)
    run(engine, [prompt], GREEDY)
    # As the trainers do: adapters are put into the very model that the engine samples from.
    settings = {"target_modules": ["q_proj", "v_proj"], "r": 4, "init_lora_weights": False}
    adapted = get_peft_model(model, LoraConfig(**settings))
    seen = {assert_as_fresh(engine, model, tiny_tokenizer, prompt).logprobs}

    def look(of: int) -> None:
        seen.add(assert_as_fresh(engine, model, tiny_tokenizer, prompt).logprobs)
        assert len(seen) == of

    CHANGES["AdamW, each"](adapted)
    look(2)
    with adapted.disable_adapter():
        look(3)
    adapted.add_adapter("other", LoraConfig(**settings))
    adapted.set_adapter("other")
    look(4)
    adapted.set_adapter("default")
    assert_as_fresh(engine, model, tiny_tokenizer, prompt)
    adapted.merge_adapter()
    assert_as_fresh(engine, model, tiny_tokenizer, prompt)
    adapted.unmerge_adapter()
    assert_as_fresh(engine, model, tiny_tokenizer, prompt)
    engine.close()


def test_a_model_that_was_trained_with_dropout_and_came_back_is_the_same(tiny_tokenizer: Any) -> None:
    model = make_test_model(tiny_tokenizer)
    model.config.attention_dropout = 0.5
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    engine = BatchingEngine(model, tiny_tokenizer, NO_TOKEN)
    prompt = random_ids(random.Random(0), 50)
    model.train()
    [first] = run(engine, [prompt], GREEDY)
    model.eval()
    assert read_by(engine, [prompt]) == 1
    model.train()
    [second] = run(engine, [prompt], GREEDY)
    assert engine.prompt_tokens_read == 52
    assert second.ids == first.ids
    assert second.logprobs == pytest.approx(first.logprobs, rel=TOLERANCE, abs=TOLERANCE)
    engine.close()


def test_what_is_forgotten_is_read_again(engine: BatchingEngine) -> None:
    prompt = random_ids(random.Random(0), 50)
    run(engine, [prompt], GREEDY)
    engine.forget()
    assert engine.prefixes.size_bytes == 0
    assert read_by(engine, [prompt]) == 50


def test_an_idle_engine_lets_go_of_what_it_kept(
    tiny_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "_KEPT_IDLE_S", 0.05)
    engine = BatchingEngine(tiny_model, tiny_tokenizer, NO_TOKEN)
    prompt = random_ids(random.Random(0), 50)
    run(engine, [prompt], GREEDY)
    deadline = time.monotonic() + WAIT_S
    while engine.prefixes.size_bytes and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.prefixes.size_bytes == 0
    assert read_by(engine, [prompt]) == 50
    engine.close()
