"""Answers of the local engine that are held to texts: whatever a model would rather say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from fakes.backends import TableBackend
from fakes.chat_models import ScriptedRecordingModel
from fakes.tiny_models import LINES, forced_continuation, make_test_model
from hypothesis import given, settings
from hypothesis import strategies as st

from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import AgentError, ModelError
from masksearch_agent.models.answer_spans import AnswerSpans
from masksearch_agent.models.engine import BatchingEngine
from masksearch_agent.models.local import LocalChatModel
from masksearch_agent.records import Message, Passage, Sampling, SearchTask
from masksearch_agent.retrieval.search import Search
from masksearch_agent.traces.rows import make_rows

STOP = ("</search>", "</answer>")
TEXTS = (LINES[0], LINES[17], "Zoë Ωmega 漢字 – 3.5%")
PASSAGES = tuple(Passage(str(n), f"Page {n}", text) for n, text in enumerate(TEXTS))
TASK = SearchTask("q", "qa", "Ada or Bram?", (("Ada",),))


class OpenAnswer:
    """Prompts that end in an open answer."""

    def __init__(self, tokenizer: Any) -> None:
        self.ids = tokenizer("<think> so</think>")["input_ids"]
        [self.open] = tokenizer("<answer>")["input_ids"]


@pytest.fixture
def engine(tiny_model: Any, tiny_tokenizer: Any) -> Iterator[BatchingEngine]:
    engine = BatchingEngine(tiny_model, tiny_tokenizer, tiny_tokenizer.eos_token_id)
    yield engine
    engine.close()


def answer_of(tokenizer: Any, ids: tuple[int, ...]) -> tuple[str, bool]:
    """Return what stands in the answer, and whether it is closed."""
    text = tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
    assert "<answer>" in text
    inner, closing, _ = text.split("<answer>", 1)[1].partition("</answer>")
    return inner, bool(closing)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 1.0, 3.0]))
def test_every_answer_is_a_span_of_what_was_shown(
    tiny_model: Any, tiny_tokenizer: Any, seed: int, temperature: float
) -> None:
    engine = BatchingEngine(tiny_model, tiny_tokenizer, tiny_tokenizer.eos_token_id)
    opening = OpenAnswer(tiny_tokenizer)
    spans = AnswerSpans(TEXTS)
    sampling = Sampling(temperature=temperature, max_tokens=60, stop=STOP, seed=seed)
    prompt = [10 + seed % 200, *opening.ids]
    with forced_continuation(tiny_model, [prompt[-1], opening.open]):
        held = [engine.submit(prompt, sampling, spans) for _ in range(2)]
        free = engine.submit(prompt, sampling)
        results = [future.result(60) for future in (*held, free)]
    engine.close()
    assert results[0].ids == results[1].ids
    assert [result.is_constrained for result in results] == [True, True, False]
    answer, is_closed = answer_of(tiny_tokenizer, results[0].ids)
    if is_closed:
        assert spans.holds(answer)
        assert answer.strip() in ("yes", "no", "Yes", "No") or any(answer.strip() in text for text in TEXTS)
    else:
        assert results[0].finish_reason == "length"


def test_a_character_of_several_tokens_is_finished(
    engine: BatchingEngine, tiny_model: Any, tiny_tokenizer: Any
) -> None:
    opening = OpenAnswer(tiny_tokenizer)
    first, *others = tiny_tokenizer("漢")["input_ids"]
    assert len(others) == 2
    sampling = Sampling(max_tokens=40, stop=STOP)
    with forced_continuation(tiny_model, [opening.ids[-1], opening.open, first]):
        result = engine.submit(opening.ids, sampling, AnswerSpans(["漢字"])).result(60)
    assert answer_of(tiny_tokenizer, result.ids) in [("漢", True), ("漢字", True)]


def test_log_probabilities_are_those_of_the_free_distribution(
    engine: BatchingEngine, tiny_model: Any, tiny_tokenizer: Any
) -> None:
    opening = OpenAnswer(tiny_tokenizer)
    prompt = opening.ids
    with forced_continuation(tiny_model, [prompt[-1], opening.open]):
        sampling = Sampling(max_tokens=6, stop=STOP)
        result = engine.submit(prompt, sampling, AnswerSpans(TEXTS)).result(60)
    with torch.no_grad():
        logits = tiny_model(torch.tensor([[*prompt, *result.ids]])).logits.float()
    logprobs = torch.log_softmax(logits, dim=-1)[0, len(prompt) - 1 :]
    # The first token is the one that was forced.
    expected = [float(logprobs[n, token]) for n, token in enumerate(result.ids)][1:]
    assert len(expected) >= 2
    assert list(result.logprobs)[1:] == pytest.approx(expected, abs=1e-3)


def test_where_no_token_is_allowed_the_turn_ends(engine: BatchingEngine, tiny_tokenizer: Any) -> None:
    """A text that the tokenizer cannot write: spans of nothing, after a verdict was ruled out."""

    class Nothing(AnswerSpans):
        def accepts(self, written: str) -> bool:
            return not written

    opening = OpenAnswer(tiny_tokenizer)
    with forced_continuation(engine.model, [opening.ids[-1], opening.open]):
        result = engine.submit(opening.ids, Sampling(max_tokens=9, stop=STOP), Nothing([])).result(60)
    assert result.ids == (opening.open, tiny_tokenizer.eos_token_id)


def make_agent(model: Any, **limits: Any) -> MaskSearchAgent:
    limits = {"max_step_tokens": 60, "max_repairs": 0, "answers_from_passages": True, **limits}
    table = {"Ada": list(PASSAGES)}
    return MaskSearchAgent(model, Search(TableBackend(table)), AgentSettings(**limits), COMPACT_PROMPTS)


@pytest.fixture
def model(tiny_tokenizer: Any) -> Iterator[LocalChatModel]:
    tiny = make_test_model(tiny_tokenizer, max_positions=4096)
    model = LocalChatModel(model=tiny, tokenizer=tiny_tokenizer, temperature=1.0)
    yield model
    model.close()


def step(model: LocalChatModel, *pieces: str) -> Any:
    """Make a model begin its first reply so."""
    [*_, last] = model.chat_format.encode_context([Message("user", "u")], is_first=True, is_closed=False)
    return forced_continuation(
        model.model, [last, *(model.tokenizer(piece)["input_ids"][0] for piece in pieces)]
    )


@pytest.mark.parametrize("seed", range(4))
async def test_an_agent_answers_from_its_passages_and_says_that_it_was_held(
    model: LocalChatModel, seed: int
) -> None:
    opening = ("<think>", " founder", "</think>", "<answer>")
    with step(model, *opening):
        trajectory = await make_agent(model).run_task(TASK, seed=seed)
        free = await make_agent(model, answers_from_passages=False).run_task(TASK, seed=seed)
    assert trajectory.turns[0].is_constrained
    assert not free.turns[0].is_constrained
    if trajectory.stop_reason == "answered":
        assert trajectory.answer in ("yes", "no", "Yes", "No") or trajectory.answer in TASK.question
    [row] = make_rows(trajectory)
    assert row.is_constrained
    [row] = make_rows(free)
    assert not row.is_constrained


def test_a_model_elsewhere_is_refused(tiny_tokenizer: Any) -> None:
    with pytest.raises(AgentError, match="needs weights in"):
        make_agent(ScriptedRecordingModel(script=["x"]))


def test_a_call_that_cannot_be_held_is_refused(model: LocalChatModel) -> None:
    model.can_hold_answers = False
    with pytest.raises(ModelError, match="cannot hold answers"):
        model.invoke("Who?", answers=AnswerSpans([]))
