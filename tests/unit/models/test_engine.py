from __future__ import annotations

import copy
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes.tiny_models import forced_continuation, make_test_model

from masksearch_agent.errors import ModelError
from masksearch_agent.models import batch as batch_module
from masksearch_agent.models.engine import BatchingEngine
from masksearch_agent.models.recording import Completion
from masksearch_agent.records import Sampling

TEXTS = (
    "Ada Fenwick is the founder of Harrow Ltd in the",
    "Who is the founder of Harrow Ltd? Bram Holt?",
    "1932 is the year of the mayor of Port Aldin.",
    "The Velling Works is the mayor of The Silent Mill in the year 1910. Port Aldin is the",
)
GREEDY = Sampling(temperature=0.0, max_tokens=12)
WAIT_S = 60


@pytest.fixture
def engine(tiny_model: Any, tiny_tokenizer: Any) -> Iterator[BatchingEngine]:
    """Return an engine that waits for a full batch of four, so that batches do not depend on the machine."""
    engine = BatchingEngine(
        tiny_model, tiny_tokenizer, tiny_tokenizer.eos_token_id, max_batch_size=4, linger_s=0.3
    )
    yield engine
    engine.close()


@pytest.fixture
def prompts(tiny_tokenizer: Any) -> list[list[int]]:
    return [tiny_tokenizer(text)["input_ids"] for text in TEXTS]


class PassSpy:
    """Watches the model's forward passes: keeps what they read, makes them wait or fail if told to."""

    def __init__(self, model: Any) -> None:
        self.read: list[torch.Tensor] = []
        self.failures: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()
        self.started = threading.Event()
        self.hook = model.register_forward_pre_hook(self._watch, with_kwargs=True)

    def _watch(self, model: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if "past_key_values" not in kwargs:
            return  # it only asks whether the weights are what they were
        self.read.append(kwargs["input_ids"])
        self.started.set()
        assert self.gate.wait(WAIT_S)
        if self.failures:
            raise self.failures.pop()

    @property
    def prompts(self) -> list[tuple[int, ...]]:
        """Shapes of the passes that read prompts (of more than one token)."""
        return [tuple(ids.shape) for ids in self.read if ids.shape[1] > 1]

    @property
    def largest(self) -> int:
        """Rows of the largest pass."""
        return max(ids.shape[0] for ids in self.read)


@pytest.fixture
def spy(tiny_model: Any) -> Iterator[PassSpy]:
    spy = PassSpy(tiny_model)
    yield spy
    spy.hook.remove()


def run(engine: BatchingEngine, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[Completion]:
    futures = [engine.submit(prompt, sampling) for prompt in prompts]
    return [future.result(WAIT_S) for future in futures]


def teacher_forced(model: Any, prompt: Sequence[int], sampled: Sequence[int]) -> list[float]:
    """Return log-probabilities from one plain forward pass over the unpadded sequence: the oracle."""
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*prompt, *sampled]])).logits[0].float()
    logprobs = torch.log_softmax(logits, dim=-1)
    return [logprobs[len(prompt) - 1 + k, token].item() for k, token in enumerate(sampled)]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0.0, max_tokens=24),
        Sampling(temperature=1.0, max_tokens=24),
        Sampling(temperature=0.7, max_tokens=24),
        Sampling(temperature=1.0, top_p=0.8, max_tokens=24),
    ],
    ids=["greedy", "temperature 1", "temperature 0.7", "nucleus"],
)
def test_recorded_logprobs_are_those_of_teacher_forcing(
    engine: BatchingEngine, tiny_model: Any, prompts: list[list[int]], sampling: Sampling
):
    for prompt, completion in zip(prompts, run(engine, prompts, sampling), strict=True):
        expected = teacher_forced(tiny_model, prompt, completion.ids)
        assert completion.logprobs == pytest.approx(expected, abs=1e-4)


def test_generation_settings_of_a_checkpoint_do_not_bend_the_distribution(
    engine: BatchingEngine, tiny_model: Any, tiny_tokenizer: Any, prompts: list[list[int]]
):
    """Many checkpoints ship a repetition penalty, which would make sampled and trained distributions differ."""
    bent = copy.deepcopy(tiny_model)
    bent.generation_config.repetition_penalty = 3.0
    bent.generation_config.no_repeat_ngram_size = 1
    bent.generation_config.min_new_tokens = 20
    bent_engine = BatchingEngine(bent, tiny_tokenizer, tiny_tokenizer.eos_token_id)
    sampling = Sampling(max_tokens=24)

    completions = run(bent_engine, prompts, sampling)
    bent_engine.close()

    assert [c.ids for c in completions] == [c.ids for c in run(engine, prompts, sampling)]
    for prompt, completion in zip(prompts, completions, strict=True):
        assert completion.logprobs == pytest.approx(teacher_forced(bent, prompt, completion.ids), abs=1e-4)
    assert bent.generation_config.repetition_penalty == 3.0


def test_greedy_tokens_are_those_of_generate(
    engine: BatchingEngine, tiny_model: Any, prompts: list[list[int]]
):
    for prompt, completion in zip(prompts, run(engine, prompts, GREEDY), strict=True):
        expected = tiny_model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)
        assert list(completion.ids) == expected[0, len(prompt) :].tolist()


def test_requests_at_once_are_one_batch_and_answer_as_if_alone(
    engine: BatchingEngine, spy: PassSpy, prompts: list[list[int]]
):
    together = run(engine, prompts, GREEDY)
    assert spy.prompts == [(4, max(map(len, prompts)))]

    engine.forget()
    alone = [run(engine, [prompt], GREEDY)[0] for prompt in prompts]
    assert len(spy.prompts) == 5
    assert [c.ids for c in together] == [c.ids for c in alone]
    for one, other in zip(together, alone, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


def test_a_request_joins_while_others_are_sampled_and_answers_as_if_alone(
    engine: BatchingEngine, spy: PassSpy, prompts: list[list[int]]
):
    long = Sampling(max_tokens=30)
    alone = [run(engine, [prompt], long)[0] for prompt in prompts[:2]]
    engine.forget()
    spy.read.clear()
    spy.started.clear()
    spy.gate.clear()
    first = engine.submit(prompts[0], long)
    assert spy.started.wait(WAIT_S)
    second = engine.submit(prompts[1], long)
    spy.gate.set()
    assert [first.result(WAIT_S).ids, second.result(WAIT_S).ids] == [completion.ids for completion in alone]
    assert spy.prompts == [(1, len(prompts[0])), (1, len(prompts[1]))]
    assert spy.largest == 2, "the tokens of both were read in the same passes"


def test_rows_that_come_and_go_do_not_disturb_each_other(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[list[int]]
):
    """Every row that ends hands its slot to the last one, again and again."""
    requests = [(prompts[n % 4] * (1 + n % 3), Sampling(max_tokens=1 + 7 * n % 23)) for n in range(40)]
    engine = BatchingEngine(tiny_model, tiny_tokenizer, tiny_tokenizer.eos_token_id, max_batch_size=3)
    alone = [run(engine, [prompt], sampling)[0] for prompt, sampling in requests]
    futures = [engine.submit(prompt, sampling) for prompt, sampling in requests]
    for future, expected in zip(futures, alone, strict=True):
        completion = future.result(WAIT_S)
        assert completion.ids == expected.ids
        assert completion.logprobs == pytest.approx(expected.logprobs, abs=1e-4)
    engine.close()


def test_requests_with_other_settings_are_sampled_together_each_by_its_own(
    engine: BatchingEngine, spy: PassSpy, prompts: list[list[int]]
):
    settings = [
        GREEDY,
        Sampling(temperature=1.0, max_tokens=3),
        GREEDY,
        Sampling(temperature=5.0, max_tokens=3),
    ]
    futures = [engine.submit(p, s) for p, s in zip(prompts, settings, strict=True)]
    completions = [future.result(WAIT_S) for future in futures]
    assert len(spy.prompts) == 1
    assert all(len(completion.ids) <= 3 for completion in completions[1::2])
    greedy = run(engine, prompts[::2], GREEDY)
    assert [completion.ids for completion in completions[::2]] == [completion.ids for completion in greedy]


def test_a_seed_gives_the_same_tokens_whatever_else_is_in_the_batch(
    engine: BatchingEngine, prompts: list[list[int]]
):
    def seeded(seed: int) -> Sampling:
        return Sampling(temperature=1.0, max_tokens=20, seed=seed)

    [alone] = run(engine, prompts[:1], seeded(7))
    beside = [engine.submit(prompts[n], seeded(seed)) for n, seed in ((1, 5), (0, 7), (2, 6), (0, 8))]
    completions = [future.result(WAIT_S) for future in beside]
    assert completions[1].ids == alone.ids
    assert completions[3].ids != alone.ids


def test_no_batch_is_larger_than_the_limit(engine: BatchingEngine, spy: PassSpy, prompts: list[list[int]]):
    assert len(run(engine, prompts * 2 + prompts[:1], GREEDY)) == 9
    assert spy.largest == 4


def test_a_burst_far_beyond_the_limit_holds_no_more_slots_and_leaves_nothing_behind(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[list[int]]
):
    held: list[tuple[int, tuple[int, ...]]] = []
    cache: Any = None

    def watch(model: Any, args: Any, kwargs: dict[str, Any]) -> None:
        nonlocal cache
        if "past_key_values" not in kwargs:
            return
        used = kwargs["past_key_values"]
        cache = cache or weakref.ref(used)
        assert cache() is used, "one cache for the whole burst"
        held.extend((used.slots, tuple(layer.keys.shape)) for layer in used.layers if layer.is_initialized)

    hook = tiny_model.register_forward_pre_hook(watch, with_kwargs=True)
    engine = BatchingEngine(tiny_model, tiny_tokenizer, tiny_tokenizer.eos_token_id, max_batch_size=3)
    gc.disable()
    try:
        futures = [
            engine.submit(prompts[n % 4], Sampling(temperature=1.0, max_tokens=1 + n % 9, seed=n))
            for n in range(100)
        ]
        assert all(future.result(WAIT_S).ids for future in futures)
        deadline = time.monotonic() + WAIT_S
        while cache() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert cache() is None, "an idle engine holds no slots, without waiting for a collection"
    finally:
        gc.enable()
        hook.remove()
        engine.close()
    # Two heads of size 16; the longest prompt and its reply fit the first 128 columns.
    assert max(slots for slots, _ in held) == 3
    assert {shape[0] for _, shape in held} <= {1, 2, 3}
    assert {shape[1:] for _, shape in held} == {(2, 128, 16)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "cannot sample with temperature -1.0"),
        ({"temperature": float("nan")}, "cannot sample with temperature nan"),
        ({"top_p": 0.0}, r"top_p 0.0; expected .* in \(0, 1\]"),
        ({"max_tokens": 0}, "cannot sample 0 tokens"),
        ({"stop": ("x", "")}, "a stop string is empty"),
    ],
)
def test_settings_that_nothing_can_be_sampled_with_are_refused_and_disturb_nobody(
    engine: BatchingEngine, prompts: list[list[int]], settings: dict[str, Any], message: str
):
    beside = engine.submit(prompts[0], GREEDY)
    with pytest.raises(ModelError, match=message):
        engine.submit(prompts[1], Sampling(**settings))
    assert beside.result(WAIT_S).ids


def test_one_pass_reads_no_more_prompt_tokens_than_the_limit(
    engine: BatchingEngine,
    spy: PassSpy,
    prompts: list[list[int]],
    monkeypatch: pytest.MonkeyPatch,
):
    alone = [run(engine, [prompt], GREEDY)[0] for prompt in prompts]
    longest = max(map(len, prompts))
    monkeypatch.setattr(batch_module, "_PROMPT_TOKENS_PER_PASS", longest - 1)
    engine.forget()
    spy.read.clear()
    together = run(engine, prompts, GREEDY)
    assert [completion.ids for completion in together] == [completion.ids for completion in alone]
    assert len(spy.prompts) > 1
    assert all(rows * width < longest for rows, width in spy.prompts if rows > 1)
    assert (1, longest) in spy.prompts, "a prompt beyond the limit is read alone"


def test_max_tokens_cuts_and_says_so(engine: BatchingEngine, prompts: list[list[int]]):
    [completion] = run(engine, prompts[:1], Sampling(max_tokens=2))
    assert len(completion.ids) == len(completion.logprobs) == 2
    assert completion.finish_reason == "length"


def ids_of(tokenizer: Any, *pieces: str) -> list[int]:
    """Return the ids of texts that are one token each."""
    encoded = [tokenizer(piece)["input_ids"] for piece in pieces]
    assert all(len(ids) == 1 for ids in encoded), dict(zip(pieces, encoded, strict=True))
    return [ids[0] for ids in encoded]


@pytest.mark.parametrize(
    ("pieces", "stop", "kept"),
    [
        (["Ada", "<search>", " mayor", "</search>", " is"], "</search>", 3),
        (["Ada", "<search>", " mayor", " of", " The", " is"], "mayor of", 3),
        (["Ada", "<search>", " mayor", " of", " The"], "ayo", 2),
        (["Ada", "<search>", " mayor", " of", " year", " is"], "r of y", 4),
        (["Ada", " mayor", " of", " year"], " mayor", 1),
    ],
    ids=["a token", "two tokens", "inside a token", "across three, ending inside", "the first token"],
)
def test_a_stop_string_ends_the_row_and_is_kept(
    engine: BatchingEngine,
    spy: PassSpy,
    tiny_model: Any,
    tiny_tokenizer: Any,
    pieces: list[str],
    stop: str,
    kept: int,
):
    chain = ids_of(tiny_tokenizer, *pieces)
    with forced_continuation(tiny_model, chain):
        [completion] = run(engine, [chain[:1]], Sampling(max_tokens=10, stop=(stop, "never said")))
    assert list(completion.ids) == chain[1 : kept + 1]
    assert completion.finish_reason == "stop"
    assert stop in tiny_tokenizer.decode(completion.ids)
    assert len(spy.read) == kept, "nothing is sampled behind it"


def test_a_stop_string_in_the_prompt_does_not_stop(
    engine: BatchingEngine, tiny_model: Any, tiny_tokenizer: Any
):
    # The prompt ends with the first half of the stop string, and holds the whole of it before.
    chain = ids_of(tiny_tokenizer, "</search>", " mayor", " of", " The", " is")
    with forced_continuation(tiny_model, chain):
        [completion] = run(engine, [[*chain[:2]]], Sampling(max_tokens=3, stop=("mayor of", "</search>")))
    assert list(completion.ids) == chain[2:5]
    assert completion.finish_reason == "length"


def test_each_row_stops_on_its_own(engine: BatchingEngine, tiny_model: Any, tiny_tokenizer: Any):
    short = ids_of(tiny_tokenizer, "Ada", "</answer>")
    ended = [*ids_of(tiny_tokenizer, "Port"), tiny_tokenizer.eos_token_id]
    long = ids_of(tiny_tokenizer, "The", " mayor", " of", " year", " in", "</search>")
    sampling = Sampling(max_tokens=20, stop=("</search>", "</answer>"))
    with (
        forced_continuation(tiny_model, short),
        forced_continuation(tiny_model, ended),
        forced_continuation(tiny_model, long),
    ):
        completions = run(engine, [short[:1], long[:1], ended[:1]], sampling)
    assert [list(c.ids) for c in completions] == [short[1:], long[1:], ended[1:]]
    assert [c.finish_reason for c in completions] == ["stop"] * 3


def test_a_sampled_end_of_turn_is_kept(engine: BatchingEngine, tiny_model: Any, tiny_tokenizer: Any):
    chain = [*ids_of(tiny_tokenizer, "Ada", " is"), tiny_tokenizer.eos_token_id]
    with forced_continuation(tiny_model, chain):
        [completion] = run(engine, [chain[:1]], Sampling(max_tokens=10))
    assert list(completion.ids) == chain[1:]
    assert completion.finish_reason == "stop"
    assert len(completion.logprobs) == 2


def test_a_failure_reaches_every_caller_and_the_engine_goes_on(
    engine: BatchingEngine, spy: PassSpy, prompts: list[list[int]]
):
    spy.failures.append(RuntimeError("out of memory"))
    futures = [engine.submit(prompt, GREEDY) for prompt in prompts]
    for future in futures:
        with pytest.raises(RuntimeError, match="out of memory"):
            future.result(WAIT_S)
    assert len(run(engine, prompts, GREEDY)) == 4


def test_a_request_cancelled_while_it_waits_is_not_sampled(
    engine: BatchingEngine, spy: PassSpy, prompts: list[list[int]]
):
    spy.gate.clear()
    first = [engine.submit(prompt, GREEDY) for prompt in prompts]
    assert spy.started.wait(WAIT_S)
    waiting = [engine.submit(prompt[::-1], GREEDY) for prompt in prompts]
    assert waiting[1].cancel()
    spy.gate.set()
    assert all(len(future.result(WAIT_S).ids) > 0 for future in (*first, waiting[0], *waiting[2:]))
    with pytest.raises(CancelledError):
        waiting[1].result()
    assert sum(rows for rows, _ in spy.prompts) == 7


def test_a_request_cancelled_while_it_is_sampled_gives_its_place_away(
    engine: BatchingEngine, spy: PassSpy, prompts: list[list[int]]
):
    spy.gate.clear()
    futures = [engine.submit(prompt, GREEDY) for prompt in prompts]
    assert spy.started.wait(WAIT_S)
    assert futures[1].cancel()
    spy.gate.set()
    others = [futures[0], *futures[2:]]
    expected = run(engine, [prompts[0], *prompts[2:]], GREEDY)
    assert [future.result(WAIT_S).ids for future in others] == [completion.ids for completion in expected]
    tokens_passes = [ids for ids in spy.read if ids.shape[1] == 1]
    assert tokens_passes[0].shape[0] == 3


def test_close_finishes_what_is_queued_and_a_later_request_starts_again(
    engine: BatchingEngine, prompts: list[list[int]]
):
    before = set(threading.enumerate())
    futures = [engine.submit(prompt, GREEDY) for prompt in prompts[:3]]
    engine.close()
    assert all(future.done() for future in futures)
    assert set(threading.enumerate()) <= before
    engine.close()
    assert run(engine, prompts[:1], GREEDY)[0].ids == futures[0].result().ids


def test_closing_while_others_submit_loses_no_request(
    tiny_model: Any, tiny_tokenizer: Any, prompts: list[list[int]]
):
    engine = BatchingEngine(tiny_model, tiny_tokenizer, tiny_tokenizer.eos_token_id, linger_s=0.0)
    sampling = Sampling(max_tokens=1)

    def use(number: int) -> int:
        if number % 5 == 0:
            engine.close()
            return 0
        return len(engine.submit(prompts[number % 4], sampling).result(WAIT_S).ids)

    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(use, range(100), timeout=WAIT_S))
    engine.close()
    assert sum(counts) == 80


def test_a_prompt_that_leaves_no_room_is_refused(engine: BatchingEngine):
    with pytest.raises(ModelError, match=r"the prompt has 512 tokens but the model reads at most 512"):
        engine.submit([5] * 512, GREEDY)
    with pytest.raises(ModelError, match="no tokens"):
        engine.submit([], GREEDY)


def test_a_prompt_that_fills_the_context_cuts_itself_and_no_other(
    tiny_tokenizer: Any, prompts: list[list[int]]
):
    model = make_test_model(tiny_tokenizer, max_positions=40)
    no_token = -1
    engine = BatchingEngine(model, tiny_tokenizer, no_token, max_batch_size=2, linger_s=0.3)
    full = (prompts[3] * 3)[:37]
    sampling = Sampling(max_tokens=12)
    [alone] = run(engine, prompts[:1], sampling)

    cut, beside = run(engine, [full, prompts[0]], sampling)

    assert beside.ids == alone.ids
    assert len(beside.ids) > 3
    assert len(cut.ids) == 3
    assert cut.finish_reason == "length"
    engine.close()


def test_the_model_stays_in_the_mode_it_was_in(tiny_tokenizer: Any, prompts: list[list[int]]):
    model = make_test_model(tiny_tokenizer).train()
    seen = []
    model.register_forward_pre_hook(lambda module, _: seen.append(module.training))
    engine = BatchingEngine(model, tiny_tokenizer, tiny_tokenizer.eos_token_id)
    run(engine, prompts[:1], GREEDY)
    engine.close()
    assert model.training
    assert seen
    assert not any(seen)


def test_a_model_with_layers_that_the_cache_does_not_fit_is_refused(tiny_tokenizer: Any):
    model = make_test_model(tiny_tokenizer)
    model.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(ModelError, match="layers of linear_attention, which the local engine does not"):
        BatchingEngine(model, tiny_tokenizer, tiny_tokenizer.eos_token_id)


def test_eager_attention_gives_the_same_tokens(
    engine: BatchingEngine, tiny_model: Any, tiny_tokenizer: Any, prompts: list[list[int]]
):
    eager = copy.deepcopy(tiny_model)
    eager.set_attn_implementation("eager")
    eager_engine = BatchingEngine(eager, tiny_tokenizer, tiny_tokenizer.eos_token_id)
    assert [c.ids for c in run(eager_engine, prompts, GREEDY)] == [
        c.ids for c in run(engine, prompts, GREEDY)
    ]
    eager_engine.close()


def test_a_process_that_ends_while_it_samples_ends_well():
    program = textwrap.dedent(
        """
        import threading

        import torch
        from fakes.tiny_models import make_test_model, make_test_tokenizer
        from masksearch_agent.models.engine import BatchingEngine
        from masksearch_agent.records import Sampling

        tokenizer = make_test_tokenizer()
        model = make_test_model(tokenizer)
        started = threading.Event()

        def work_in_torch(*_):
            started.set()
            for _ in range(20):
                torch.ones(1000, 1000) @ torch.ones(1000, 1000)

        model.register_forward_hook(work_in_torch)
        engine = BatchingEngine(model, tokenizer, tokenizer.eos_token_id)
        engine.submit([5, 6, 7], Sampling(max_tokens=4))
        started.wait()
        """
    )
    path = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])
    finished = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
